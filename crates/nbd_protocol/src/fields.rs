//! Taking messages apart, field by field.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The longest string of the protocol, in bytes: export names, descriptions, queries, messages.
pub const STRING_LEN_MAX: usize = 4096;

/// What is wrong with a message, in words for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

const TOO_SHORT: Malformed = Malformed("a message ends too early");

/// Checks a string of the protocol: at most [`STRING_LEN_MAX`] bytes of UTF-8, no zero byte among them.
///
/// # Errors
/// What is wrong with it.
pub fn check_string(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > STRING_LEN_MAX {
        return Err(Malformed("a string is longer than 4096 bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a string is not UTF-8"))?;
    if text.contains('\0') {
        return Err(Malformed("a string contains a zero byte"));
    }
    Ok(text)
}

/// What is left of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next fields, which have this layout.
    pub(crate) fn read<W>(&mut self) -> Result<&'a W, Malformed>
    where
        W: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        let (value, rest) = W::ref_from_prefix(self.0).map_err(|_| TOO_SHORT)?;
        self.0 = rest;
        Ok(value)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.read()
            .map(|value: &zerocopy::big_endian::U16| value.get())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.read()
            .map(|value: &zerocopy::big_endian::U32| value.get())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.read()
            .map(|value: &zerocopy::big_endian::U64| value.get())
    }

    /// A string after its length in 32 bits.
    pub(crate) fn string(&mut self) -> Result<&'a str, Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| TOO_SHORT)?;
        check_string(self.take(len)?)
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Result<&'a str, Malformed> {
        check_string(self.0)
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Malformed("a message does not end where it should")),
        }
    }
}

/// Appends a string after its length.
///
/// # Panics
/// If it is longer than the protocol's strings are.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() <= STRING_LEN_MAX, "a string was not checked");
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_bounded_utf8_without_zero_bytes() {
        assert_eq!(check_string("Größe".as_bytes()), Ok("Größe"));
        assert!(check_string(&[b'a'; STRING_LEN_MAX]).is_ok());
        assert!(check_string(&[b'a'; STRING_LEN_MAX + 1]).is_err());
        assert!(check_string(b"a\0b").is_err());
        assert!(check_string(b"\xff").is_err());
    }
}
