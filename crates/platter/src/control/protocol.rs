//! What is said on the control socket.
//!
//! Both sides are bounded by what they read: a request by [`REQUEST_LEN_MAX`] and by the depth of JSON that `resource::parse`
//! allows.

use disk_resolver::Export;
use resource::{ByteSize, ResolveError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Goes up when a request or a reply changes its meaning. New operations and new keys of replies do not change it.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// How long a request may be, in bytes, its newline included.
pub(crate) const REQUEST_LEN_MAX: usize = 1 << 20;

/// A request that makes sense by itself.
#[derive(Debug)]
pub(crate) struct Request {
    /// What the reply is to carry, so that the client knows what it answers.
    pub(crate) id: Option<Value>,
    pub(crate) operation: Operation,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) enum Operation {
    Version(Nothing),
    Inspect(Inspect),
    Set(Set),
    ListExports(Nothing),
    AddExport(Box<AddExport>),
    RemoveExport(RemoveExport),
    Resize(Resize),
    Handover(Nothing),
}

/// The names of all operations, as they are listed to who asks for another.
pub(crate) const OPERATIONS: &[&str] = &[
    "version",
    "inspect",
    "set",
    "list_exports",
    "add_export",
    "remove_export",
    "resize",
    "handover",
];

#[derive(Debug, Deserialize)]
pub(crate) struct Nothing {}

#[derive(Debug, Deserialize)]
pub(crate) struct Inspect {
    #[serde(default)]
    pub(crate) path: String,
    /// Levels below the path; all, if there is no number.
    #[serde(default)]
    pub(crate) depth: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Set {
    pub(crate) path: String,
    /// A string, a number, or a truth value.
    pub(crate) value: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AddExport {
    pub(crate) export: Export,
    /// An absolute folder that paths in the export are relative to.
    #[serde(default = "root_folder")]
    pub(crate) base: PathBuf,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RemoveExport {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resize {
    pub(crate) export: String,
    pub(crate) size: ByteSize,
}

fn root_folder() -> PathBuf {
    "/".into()
}

/// Why a request was not done, for people; and which key of it is to blame, if it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) path: Option<String>,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            path: None,
        }
    }

    /// A refusal for the value at `path` of the request.
    pub(crate) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            path: Some(path.into()),
        }
    }
}

impl From<ResolveError> for Refusal {
    fn from(error: ResolveError) -> Self {
        let path = (!error.path().is_root()).then(|| error.path().to_string());
        Self {
            message: error.problem().to_string(),
            path,
        }
    }
}

/// Reads a request, without the newline. A refusal comes with the id, if it could be read.
pub(crate) fn parse(line: &[u8]) -> Result<Request, (Option<Value>, Refusal)> {
    let without_id = |refusal| (None, refusal);
    let text = std::str::from_utf8(line)
        .map_err(|_| without_id(Refusal::new("a request is text in UTF-8")))?;
    let value = resource::parse(text).map_err(|error| without_id(error.into()))?;
    let Value::Object(mut fields) = value else {
        return Err(without_id(Refusal::new(
            "a request is a JSON object with the key \"op\"",
        )));
    };
    let id = fields.shift_remove("id");
    if let Some(Value::Array(_) | Value::Object(_)) = id {
        return Err(without_id(Refusal::at(
            "id",
            "an id is a number or a string",
        )));
    }
    match operation(fields) {
        Ok(operation) => Ok(Request { id, operation }),
        Err(refusal) => Err((id, refusal)),
    }
}

fn operation(mut fields: Map<String, Value>) -> Result<Operation, Refusal> {
    let names = || OPERATIONS.join(", ");
    let name = match fields.shift_remove("op") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(Refusal::at("op", format!("is one of {}", names()))),
        None => {
            let message = format!("the key \"op\" is missing: it is one of {}", names());
            return Err(Refusal::new(message));
        }
    };
    Ok(match name.as_str() {
        "version" => Operation::Version(read(fields)?),
        "inspect" => Operation::Inspect(read(fields)?),
        "set" => Operation::Set(read(fields)?),
        "list_exports" => Operation::ListExports(read(fields)?),
        "add_export" => Operation::AddExport(Box::new(read(fields)?)),
        "remove_export" => Operation::RemoveExport(read(fields)?),
        "resize" => Operation::Resize(read(fields)?),
        "handover" => Operation::Handover(read(fields)?),
        _ => {
            let message = format!("unknown operation; there are {}", names());
            return Err(Refusal::at("op", message));
        }
    })
}

/// Unknown keys are refused: one that is ignored would have been meant to matter.
fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Refusal> {
    Ok(resource::from_value(&Value::Object(fields))?)
}

/// The line that answers a request.
pub(crate) fn reply(id: Option<Value>, result: Result<Value, Refusal>) -> Vec<u8> {
    let mut object = Map::new();
    if let Some(id) = id {
        object.insert("id".to_owned(), id);
    }
    match result {
        Ok(value) => object.insert("ok".to_owned(), value),
        Err(Refusal { message, path }) => {
            let mut error = json!({ "message": message });
            if let Some(path) = path {
                error["path"] = path.into();
            }
            object.insert("error".to_owned(), error)
        }
    };
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line.into_bytes()
}

/// What an answer says, read by who asked.
pub(crate) fn parse_reply(line: &[u8]) -> Result<Result<Value, Refusal>, String> {
    let reply: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Value::Object(mut reply) = reply else {
        return Err("it is no object".to_owned());
    };
    if let Some(value) = reply.shift_remove("ok") {
        return Ok(Ok(value));
    }
    let error = reply
        .get("error")
        .ok_or("it has neither \"ok\" nor \"error\"")?;
    let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(Err(Refusal {
        message: text("message").ok_or("its error has no message")?,
        path: text("path"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> (Option<Value>, Refusal) {
        parse(line.as_bytes()).expect_err(line)
    }

    #[test]
    fn every_operation_of_the_list_is_known_and_no_other() {
        for name in OPERATIONS {
            // Most of them want more than a name, and say what.
            if let Err((_, refusal)) = parse(format!(r#"{{"op":"{name}"}}"#).as_bytes()) {
                assert_ne!(refusal.path.as_deref(), Some("op"), "{name}: {refusal:?}");
            }
        }
        let (_, refusal) = refused(r#"{"op":"reboot"}"#);
        assert_eq!(refusal.path.as_deref(), Some("op"));
        assert!(refusal.message.contains("remove_export"), "{refusal:?}");
    }

    #[test]
    fn a_wrong_request_is_refused_with_its_place_and_its_id() {
        for (line, path, clue) in [
            ("", None, "EOF"),
            ("[]", None, "object"),
            ("{}", None, "\"op\""),
            (r#"{"op":1}"#, Some("op"), "inspect"),
            (r#"{"op":"inspect","pth":""}"#, Some("pth"), "path"),
            (r#"{"op":"inspect","depth":-1}"#, Some("depth"), "-1"),
            (r#"{"op":"inspect","path":"","path":""}"#, None, "twice"),
            (r#"{"op":"set","path":""}"#, Some("value"), "missing"),
            (
                r#"{"op":"resize","export":"","size":"1X"}"#,
                Some("size"),
                "1X",
            ),
            (
                r#"{"op":"inspect","id":[]}"#,
                Some("id"),
                "number or a string",
            ),
        ] {
            let (_, refusal) = refused(line);
            let found = (refusal.path.as_deref(), refusal.message.as_str());
            assert!(
                found.0 == path && found.1.contains(clue),
                "{line}: {found:?}"
            );
        }
        assert_eq!(refused(r#"{"id":7,"op":"x"}"#).0, Some(json!(7)));
        let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let (_, refusal) = refused(&format!(r#"{{"op":"set","path":"","value":{nested}}}"#));
        assert!(refusal.message.contains("nested"), "{refusal:?}");
    }

    #[test]
    fn a_reply_is_one_line_and_is_understood() {
        let refusal = Refusal::at("path", "two\nlines");
        for result in [Ok(json!({ "a": "b\nc" })), Ok(Value::Null), Err(refusal)] {
            let line = reply(Some("x".into()), result.clone());
            assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
            assert_eq!(parse_reply(&line), Ok(result));
        }
        for line in ["", "1", "{}", r#"{"error":1}"#] {
            parse_reply(line.as_bytes()).expect_err(line);
        }
    }
}
