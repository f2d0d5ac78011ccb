//! What can be in a sector: zeros, one byte over and over, or a stamp that says for which sector of which export it was written, and
//! when. So a sector that has another's data, half of its own, or an old state, is known for what it is.

use std::fmt;

use super::random::mixed;

pub(crate) const SECTOR_BYTES: u64 = 512;
pub(crate) const SECTOR_LEN: usize = 512;

const MAGIC: u64 = 0x736f_616b_2073_6563;
const WORD_LEN: usize = 8;
/// Magic, export, sector, generation; what follows is derived from these.
const HEAD_WORD_COUNT: usize = 4;

/// The sector that a content is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The index of the export in the table of exports.
    pub(crate) export: usize,
    pub(crate) sector: u64,
}

/// What somebody put into a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Zero,
    /// Bytes that are all the same.
    Fill(u8),
    /// Bytes that name their place, and this generation.
    Stamp(u64),
}

impl Content {
    /// Writes what a sector with this content at this place has.
    pub(crate) fn put(self, place: Place, bytes: &mut [u8]) {
        match self {
            Self::Zero => bytes.fill(0),
            Self::Fill(byte) => bytes.fill(byte),
            Self::Stamp(generation) => stamp(place, generation, bytes),
        }
    }

    /// Whether these bytes are exactly this content at this place.
    pub(crate) fn is(self, place: Place, bytes: &[u8]) -> bool {
        let mut own = [0; SECTOR_LEN];
        self.put(place, &mut own);
        bytes == own
    }
}

fn stamp(place: Place, generation: u64, bytes: &mut [u8]) {
    let head = [MAGIC, place.export as u64, place.sector, generation];
    let key = head.iter().fold(0, |key, word| mixed(key ^ word));
    for (index, word) in bytes.chunks_exact_mut(WORD_LEN).enumerate() {
        let derived = || mixed(key.wrapping_add(index as u64));
        let value = head.get(index).copied().unwrap_or_else(derived);
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// What bytes seem to be, for whoever has to find out how they came there.
pub(crate) fn describe(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) {
        return "zeros".to_owned();
    }
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Content::Fill(bytes[0]).to_string();
    }
    let word = |index: usize| {
        let bytes = &bytes[index * WORD_LEN..][..WORD_LEN];
        u64::from_le_bytes(bytes.try_into().expect("a word"))
    };
    let [magic, export, sector, generation] = [0, 1, 2, 3].map(word);
    if magic != MAGIC || export > 64 {
        return format!("bytes of nobody, beginning with {:02x?}", &bytes[..16]);
    }
    let place = Place {
        export: usize::try_from(export).expect("is small"),
        sector,
    };
    let mut whole = [0; SECTOR_LEN];
    stamp(place, generation, &mut whole);
    let told = format!("the stamp {generation} of export {export}, sector {sector}");
    match whole.iter().zip(bytes).position(|(own, is)| own != is) {
        None => told,
        Some(at) => format!("{told}, which is torn at byte {at}"),
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => write!(f, "zeros"),
            Self::Fill(byte) => write!(f, "bytes {byte:#04x}"),
            Self::Stamp(generation) => write!(f, "the stamp {generation}"),
        }
    }
}

const _: () =
    assert!(HEAD_WORD_COUNT * WORD_LEN <= SECTOR_LEN && SECTOR_BYTES == SECTOR_LEN as u64);

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        export: 2,
        sector: 77,
    };

    fn bytes(content: Content, place: Place) -> Vec<u8> {
        let mut bytes = vec![0xee; SECTOR_LEN];
        content.put(place, &mut bytes);
        bytes
    }

    #[test]
    fn a_stamp_is_of_one_place_and_one_generation() {
        let own = bytes(Content::Stamp(5), PLACE);
        assert!(Content::Stamp(5).is(PLACE, &own));
        assert!(!Content::Stamp(6).is(PLACE, &own));
        let neighbour = Place {
            sector: 78,
            ..PLACE
        };
        assert!(!Content::Stamp(5).is(neighbour, &own));
    }

    #[test]
    fn a_single_wrong_byte_is_seen_wherever_it_is() {
        for content in [Content::Zero, Content::Fill(9), Content::Stamp(5)] {
            for at in 0..SECTOR_LEN {
                let mut planted = bytes(content, PLACE);
                planted[at] ^= 1;
                assert!(!content.is(PLACE, &planted), "{content}, byte {at}");
            }
        }
    }

    #[test]
    fn bytes_are_told_for_what_they_are() {
        assert_eq!(describe(&bytes(Content::Zero, PLACE)), "zeros");
        assert_eq!(describe(&bytes(Content::Fill(9), PLACE)), "bytes 0x09");
        let mut stamp = bytes(Content::Stamp(5), PLACE);
        let told = "the stamp 5 of export 2, sector 77";
        assert_eq!(describe(&stamp), told);
        stamp[100..].fill(0);
        assert_eq!(
            describe(&stamp),
            format!("{told}, which is torn at byte 100")
        );
        stamp[0] = 1;
        assert!(describe(&stamp).starts_with("bytes of nobody"));
    }
}
