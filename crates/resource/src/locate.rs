//! From a path back to a line of the text.

use crate::path::{JsonPath, Segment};

/// The line of `text`, from 1, where the member or element at `path` begins; for a member, the line of its key.
///
/// If it does not exist (a key that is missing), the line of the nearest thing around it that does. `None` if `text` is not
/// JSON up to there. The time taken is linear, whatever `text` is.
pub fn line_of(text: &str, path: &JsonPath) -> Option<usize> {
    let mut scanner = Scanner {
        bytes: text.as_bytes(),
        at: 0,
    };
    scanner.skip_space();
    let mut found = scanner.at;
    scanner.peek()?;
    for segment in path.segments() {
        match scanner.enter(segment)? {
            Some(position) => found = position,
            None => break,
        }
    }
    let before = &text.as_bytes()[..found];
    Some(before.iter().filter(|&&byte| byte == b'\n').count() + 1)
}

struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over `byte`, and space behind it.
    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        if is_there {
            self.at += 1;
            self.skip_space();
        }
        is_there
    }

    /// Moves from the start of a value to the start of the value inside it that `segment` names, and returns where the member
    /// or element begins. `Some(None)` if there is none; `None` if the text is broken.
    fn enter(&mut self, segment: &Segment) -> Option<Option<usize>> {
        match segment {
            Segment::Key(key) if self.eat(b'{') => self.enter_member(key),
            Segment::Index(index) if self.eat(b'[') => self.enter_element(*index),
            _ => Some(None),
        }
    }

    fn enter_member(&mut self, wanted: &str) -> Option<Option<usize>> {
        while self.peek()? == b'"' {
            let position = self.at;
            self.skip_string()?;
            let key: String = serde_json::from_slice(&self.bytes[position..self.at]).ok()?;
            self.skip_space();
            if !self.eat(b':') {
                return None;
            }
            if key == wanted {
                return Some(Some(position));
            }
            self.skip_value()?;
            if !self.eat(b',') {
                break;
            }
        }
        Some(None)
    }

    fn enter_element(&mut self, index: usize) -> Option<Option<usize>> {
        for _ in 0..index {
            if self.peek()? == b']' {
                return Some(None);
            }
            self.skip_value()?;
            if !self.eat(b',') {
                return Some(None);
            }
        }
        Some((self.peek()? != b']').then_some(self.at))
    }

    /// Steps over a string.
    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Steps over a value, however deep, and space behind it.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                _ => self.skip_scalar(),
            }
            self.skip_space();
            if depth == 0 {
                return Some(());
            }
            while matches!(self.peek(), Some(b',' | b':')) {
                self.at += 1;
                self.skip_space();
            }
        }
    }

    /// Steps over a number or a word.
    fn skip_scalar(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek()
            && !matches!(
                byte,
                b',' | b':' | b'}' | b']' | b'"' | b' ' | b'\t' | b'\n' | b'\r'
            )
        {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
{
  "type": "layered", "x\"}": "]}",
  "layers": [
    { "type": "ram" },
    { "type": "disk",
      "disk": {
        "type": "file",
        "p\u0061th": "a.raw"
      }
    }
  ], "n": -1.5e3
}
"#;

    #[test]
    fn a_path_is_found_on_its_line() {
        let root = JsonPath::root();
        let disk = root.key("layers").index(1).key("disk");
        for (path, line) in [
            (root.clone(), 2),
            (root.key("type"), 3),
            (root.key("x\"}"), 3),
            (root.key("layers"), 4),
            (root.key("layers").index(0), 5),
            (root.key("layers").index(1), 6),
            (disk.clone(), 7),
            (disk.key("path"), 9),
            (root.key("n"), 12),
        ] {
            assert_eq!(line_of(TEXT, &path), Some(line), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_found_where_it_should_be() {
        let root = JsonPath::root();
        let layers = root.key("layers");
        for (path, line) in [
            (root.key("missing"), 2),
            (layers.index(2), 4),
            (layers.key("x"), 4),
            (layers.index(0).key("size"), 5),
            (layers.index(1).key("disk").key("size"), 7),
            (root.key("n").index(3), 12),
        ] {
            assert_eq!(line_of(TEXT, &path), Some(line), "{path}");
        }
    }

    #[test]
    fn text_cut_anywhere_gives_a_line_or_nothing() {
        let path = JsonPath::root()
            .key("layers")
            .index(1)
            .key("disk")
            .key("path");
        for end in 0..TEXT.len() {
            let line = line_of(&TEXT[..end], &path);
            assert!(line.is_none_or(|line| line <= 12), "cut at {end}: {line:?}");
        }
        assert_eq!(line_of("", &JsonPath::root()), None);
        assert_eq!(line_of(&"[".repeat(1 << 20), &path), Some(1));
        assert_eq!(line_of("{\"a\": }}}", &JsonPath::root().key("b")), None);
        assert_eq!(line_of("{\"a\\", &JsonPath::root().key("b")), None);
    }
}
