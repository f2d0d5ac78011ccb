//! Where in a JSON document something is.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One step down a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segment {
    /// An element of an array.
    Index(usize),
    /// A member of an object.
    Key(String),
}

/// A place in a JSON document; shown like `layers[1].disk.path`, and empty for the document itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct JsonPath(Vec<Segment>);

impl JsonPath {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The member `key` of the object at this place.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.join(Segment::Key(key.to_owned()))
    }

    /// The element `index` of the array at this place.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.join(Segment::Index(index))
    }

    /// The steps from the document down.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is the document itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn join(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl FromIterator<Segment> for JsonPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_plain(key) && position == 0 => f.write_str(key)?,
                Segment::Key(key) if is_plain(key) => write!(f, ".{key}")?,
                // Quoted as JSON would, so that a hostile key stays one printable line.
                Segment::Key(key) => write!(f, "[{:?}]", crate::error::shortened(key))?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    (1..=64).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_code() {
        let layer = JsonPath::root().key("layers").index(1);
        assert_eq!(
            layer.key("disk").key("path").to_string(),
            "layers[1].disk.path"
        );
        assert_eq!(JsonPath::root().to_string(), "");
        assert_eq!(JsonPath::root().index(0).key("a").to_string(), "[0].a");
        assert_eq!(layer.key("a b\n").to_string(), "layers[1][\"a b\\n\"]");
    }
}
