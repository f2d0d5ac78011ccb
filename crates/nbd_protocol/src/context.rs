//! Metadata contexts: what block status can tell about an export.

use crate::fields::{Fields, push_string};
use crate::{Malformed, check_string};

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextRequest<'a> {
    /// The export that it is about.
    pub export_name: &'a str,
    /// What is looked for. A list without a query means everything there is; a choice without one means nothing.
    pub queries: Queries<'a>,
}

/// Queries for metadata contexts, each with a colon after its namespace. What comes behind the colon, the namespace defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queries<'a> {
    /// Whole strings only, as was checked.
    fields: Fields<'a>,
}

impl<'a> ContextRequest<'a> {
    /// The option's data for these queries.
    ///
    /// # Panics
    /// If a string is longer than [`STRING_LEN_MAX`](crate::STRING_LEN_MAX).
    pub fn encode(export_name: &str, queries: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        push_string(&mut out, export_name);
        let count = u32::try_from(queries.len()).expect("there are few queries");
        out.extend_from_slice(&count.to_be_bytes());
        queries
            .iter()
            .for_each(|query| push_string(&mut out, query));
        out
    }

    /// Takes the option's data apart; every query is checked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        let export_name = fields.string()?;
        let count = fields.u32()?;
        let queries = Queries { fields };
        // A count that lies ends at the first query that is not there.
        for _ in 0..count {
            if !fields.string()?.contains(':') {
                return Err(Malformed(
                    "a metadata query has no namespace: it must look like `base:allocation`",
                ));
            }
        }
        fields.finish()?;
        Ok(Self {
            export_name,
            queries,
        })
    }
}

impl<'a> Iterator for Queries<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.fields.string().ok()
    }
}

/// One metadata context: the data of one `META_CONTEXT` reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaContext<'a> {
    /// The number that block status will use for it; 0 in a list.
    pub id: u32,
    /// Its full name, as in `base:allocation`.
    pub name: &'a str,
}

impl<'a> MetaContext<'a> {
    /// The reply's data.
    pub fn encode(&self) -> Vec<u8> {
        [&self.id.to_be_bytes()[..], self.name.as_bytes()].concat()
    }

    /// Takes the reply's data apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(data);
        Ok(Self {
            id: fields.u32()?,
            name: check_string(fields.0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_come_out_as_they_went_in() {
        for queries in [&[][..], &["base:"], &["base:allocation", "x-y:z", ":"]] {
            let data = ContextRequest::encode("disk", queries);
            let request = ContextRequest::decode(&data).unwrap();
            assert_eq!(request.export_name, "disk");
            assert!(request.queries.eq(queries.iter().copied()));
        }
    }

    #[test]
    fn a_query_without_a_namespace_is_refused() {
        let data = ContextRequest::encode("", &["base:", "allocation"]);
        assert!(ContextRequest::decode(&data).is_err());
    }

    #[test]
    fn a_truncated_or_longer_request_is_refused() {
        let data = ContextRequest::encode("disk", &["base:allocation", "base:"]);
        for len in 0..data.len() {
            assert!(ContextRequest::decode(&data[..len]).is_err(), "{len} bytes");
        }
        assert!(ContextRequest::decode(&[&data[..], b"\0"].concat()).is_err());
    }

    #[test]
    fn a_count_that_lies_is_refused_at_once() {
        assert!(ContextRequest::decode(b"\0\0\0\0\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn a_context_is_a_number_and_a_name() {
        let context = MetaContext {
            id: 7,
            name: "base:allocation",
        };
        let data = context.encode();
        assert_eq!(data, *b"\0\0\0\x07base:allocation");
        assert_eq!(MetaContext::decode(&data), Ok(context));
        assert!(MetaContext::decode(&data[..3]).is_err());
    }
}
