//! Sizes as people write them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A number of bytes; in JSON a whole number, or text with a unit such as `"10G"`.
///
/// Units are powers of 1024: `K`, `M`, `G`, `T`, `P`, also written `KiB` and so on; `B` or none is bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// The text is not a [`ByteSize`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found} is not a size: write a whole number of bytes, or one with a unit such as \"512M\" or \"10G\" \
         (K, M, G, T, P: powers of 1024)"
)]
pub struct InvalidByteSize {
    found: String,
}

const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];

impl ByteSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    fn from_str(text: &str) -> Result<Self, InvalidByteSize> {
        parse(text).ok_or_else(|| InvalidByteSize {
            found: format!("{:?}", crate::error::shortened(text)),
        })
    }
}

fn parse(text: &str) -> Option<ByteSize> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let count: u64 = digits.parse().ok()?;
    let shift = match unit {
        "" | "B" | " B" => 0,
        unit => {
            let unit = unit.strip_prefix(' ').unwrap_or(unit);
            let mut chars = unit.chars();
            let letter = chars.next()?.to_ascii_uppercase();
            let power = UNITS.iter().position(|&known| known == letter)? + 1;
            // `KB` means 1000 to some people and 1024 to others: refused.
            if !matches!(chars.as_str(), "" | "iB") {
                return None;
            }
            10 * power
        }
    };
    count.checked_mul(1 << shift).map(ByteSize)
}

/// With the largest unit that makes a whole number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = match self.0 {
            0 => 0,
            bytes => (bytes.trailing_zeros() as usize / 10).min(UNITS.len()),
        };
        write!(f, "{}", self.0 >> (10 * power))?;
        match power {
            0 => Ok(()),
            power => write!(f, "{}", UNITS[power - 1]),
        }
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

/// Text with a unit where that is exact, else the number.
impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 != 0 && self.0.is_multiple_of(1024) {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByteSizeVisitor)
    }
}

struct ByteSizeVisitor;

impl Visitor<'_> for ByteSizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size: a whole number of bytes, or text such as \"10G\"")
    }

    fn visit_u64<E>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "size",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+ ?(B|[KMGTPkmgtp](iB)?)?$" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("1K", 1024),
            ("1KiB", 1024),
            ("10 GiB", 10 << 30),
            ("10g", 10 << 30),
            ("3T", 3 << 40),
            ("16383P", 16383 << 50),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "G",
            "-1",
            "1.5G",
            "1KB",
            "1 000",
            "1GG",
            "0x10",
            "16384P",
            "18446744073709551616",
            "1 ",
            " 1",
            "1Ki",
            "\u{663}",
            "1E",
        ] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("is not a size: write"), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_would_be_read() {
        for bytes in [
            0,
            1,
            1023,
            1024,
            1536,
            1 << 20,
            10 << 30,
            1 << 60,
            u64::MAX,
            u64::MAX << 9,
        ] {
            let size = ByteSize(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
            let json = serde_json::to_value(size).unwrap();
            assert_eq!(serde_json::from_value::<ByteSize>(json).unwrap(), size);
        }
        assert_eq!(ByteSize(10 << 30).to_string(), "10G");
        assert_eq!(ByteSize(1536).to_string(), "1536");
        assert_eq!(ByteSize(1 << 60).to_string(), "1024P");
    }
}
