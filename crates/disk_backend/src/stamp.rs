//! What stands for the content of a disk.

use std::fmt;

/// Stands for the content of a disk that nobody writes: it is another one when the content is another one, as far as whoever gives it can
/// tell, and may be another one when the content is the same. So whoever kept something that goes with the content compares two of them.
///
/// It is no protection against those who want to be mistaken: a file's is the time of its last change, which anybody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentStamp([u8; Self::BYTES]);

impl ContentStamp {
    /// The length of a stamp in bytes.
    pub const BYTES: usize = 32;

    /// None if all bytes are zero: where a stamp is stored, these stand for none.
    pub fn new(bytes: [u8; Self::BYTES]) -> Option<Self> {
        bytes.iter().any(|byte| *byte != 0).then_some(Self(bytes))
    }

    /// A stamp that people can read: 1 to 32 printable characters of ASCII. None if it is anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let mut bytes = [0; Self::BYTES];
        let place = bytes.get_mut(..text.len()).filter(|_| is_printable)?;
        place.copy_from_slice(text.as_bytes());
        Self::new(bytes)
    }

    /// The bytes, as they may be stored.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The stamp of what is seen where something with this stamp lies over something with the stamp `lower`. It is the same in every version:
    /// it is kept.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        // Two numbers for each of four lanes: where it begins, and what it multiplies by, which is odd. Words, because sums of bytes
        // would be alike for stamps that are.
        const LANES: [[u64; 2]; 4] = [
            [0x243f_6a88_85a3_08d3, 0x9e37_79b9_7f4a_7c15],
            [0x1319_8a2e_0370_7344, 0xd6e8_feb8_6659_fd93],
            [0xa409_3822_299f_31d0, 0xff51_afd7_ed55_8ccd],
            [0x082e_fa98_ec4e_6c89, 0xc4ce_b9fe_1a85_ec53],
        ];
        let mut mixed = [0; Self::BYTES];
        for ([begin, factor], place) in LANES.into_iter().zip(mixed.chunks_exact_mut(8)) {
            let words = self.0.chunks_exact(8).chain(lower.0.chunks_exact(8));
            let lane = words.fold(begin, |lane, word| {
                let word = u64::from_le_bytes(word.try_into().expect("it has eight bytes"));
                let product = (lane ^ word).wrapping_mul(factor);
                product ^ product >> 32
            });
            place.copy_from_slice(&lane.to_le_bytes());
        }
        Self::new(mixed).unwrap_or(self)
    }
}

/// The text, if it is one; else hexadecimal digits.
impl fmt::Display for ContentStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self
            .0
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&self.0[..len]).ok();
        match text.filter(|text| Self::from_text(text).is_some()) {
            Some(text) => f.write_str(text),
            None => self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_a_text_or_digits_and_zeros_are_none() {
        assert_eq!(ContentStamp::new([0; 32]), None);
        let text = ContentStamp::from_text("modified 17.000000005").unwrap();
        assert_eq!(text.to_string(), "modified 17.000000005");
        assert_eq!(ContentStamp::new(*text.as_bytes()), Some(text));
        let longest = "x".repeat(32);
        assert_eq!(
            ContentStamp::from_text(&longest).unwrap().to_string(),
            longest
        );
        for wrong in ["", &"x".repeat(33), "a\0", "\n", "ä"] {
            assert_eq!(ContentStamp::from_text(wrong), None, "{wrong:?}");
        }
        let mut bytes = [0; 32];
        bytes[31] = 0xa5;
        let digits = ContentStamp::new(bytes).unwrap().to_string();
        assert_eq!(digits, format!("{}a5", "00".repeat(31)));
    }

    /// It is stored: another version must not come to another one.
    #[test]
    fn what_lies_over_something_has_a_stamp_of_both_that_stays() {
        let stamp = |text| ContentStamp::from_text(text).unwrap();
        let over = stamp("modified 1").over(stamp("modified 2"));
        assert_eq!(
            over.to_string(),
            "3d34415404e65db5f150112f93c290725f38fb20ba42b2516ca0807f271a33e5"
        );
        let others = [
            stamp("modified 2").over(stamp("modified 1")),
            stamp("modified 1").over(stamp("modified 3")),
            stamp("modified 3").over(stamp("modified 2")),
            stamp("modified 2").over(stamp("modified 2")),
        ];
        for other in others {
            assert_ne!(other, over);
        }
    }
}
