//! Writes an archive that a kernel unpacks as its first file system: cpio in the form `newc`.
//!
//! An entry is a head of 110 letters (the magic `070701`, and thirteen numbers of eight hexadecimal digits), its name with a zero behind
//! it, and its bytes; head with name, and bytes, are filled up to four.

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entry_count: u32,
}

impl Archive {
    pub(crate) fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, &[]);
    }

    /// A file that may be run.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) {
        self.entry(name, PROGRAM, bytes);
    }

    pub(crate) fn link(&mut self, name: &str, to: &str) {
        self.entry(name, LINK, to.as_bytes());
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.entry_count += 1;
        let len = u32::try_from(bytes.len()).expect("a file of an archive is small");
        let name_len = u32::try_from(name.len() + 1).expect("a name is short");
        // Number, mode, owner, group, links, time, length, four numbers of devices, length of the name, checksum.
        let numbers = [
            self.entry_count,
            mode,
            0,
            0,
            1,
            0,
            len,
            0,
            0,
            0,
            0,
            name_len,
            0,
        ];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.fill_up();
        self.bytes.extend(bytes);
        self.fill_up();
    }

    fn fill_up(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_its_head_its_name_and_its_bytes_each_filled_up_to_four() {
        let mut archive = Archive::default();
        archive.file("init", b"hello");
        let bytes = archive.finish();
        let head = "070701000000010000\
                    81ed000000000000000000000001000000000000000500000000000000000000000000000000\
                    0000000500000000";
        assert_eq!(String::from_utf8_lossy(&bytes[..110]), head);
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn an_archive_ends_with_its_trailer() {
        let bytes = Archive::default().finish();
        assert_eq!(&bytes[110..121], b"TRAILER!!!\0");
    }
}
