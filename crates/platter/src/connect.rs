//! What a user is told once the disks are there: what is served, and lines to paste.

use crate::tls;
use disk_backend::{Disk, Persistence};
use disk_resolver::OpenExport;
use frontend_nbd::{ListenAddress, TlsConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// A number of bytes for people: the largest unit of 1024 that leaves at least 1, with at most two decimals.
pub(crate) struct Bytes(pub(crate) u64);

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = self.0.checked_ilog2().map_or(0, |log| log as usize / 10);
        let unit = UNITS[power];
        let hundredths = (u128::from(self.0) * 100) >> (10 * power);
        match hundredths % 100 {
            0 => write!(f, "{} {unit}", hundredths / 100),
            cents if cents % 10 == 0 => write!(f, "{}.{} {unit}", hundredths / 100, cents / 10),
            cents => write!(f, "{}.{cents:02} {unit}", hundredths / 100),
        }
    }
}

/// An export's name for people, in one line and without what terminals would obey.
pub(crate) fn shown_name(name: &str) -> Cow<'_, str> {
    match name {
        "" => "(default export)".into(),
        name if name.contains(char::is_control) => name.escape_debug().to_string().into(),
        name => name.into(),
    }
}

/// What a user wants to know of an export, on either side of the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExportFacts {
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) sector_size: u32,
    pub(crate) read_only: bool,
    pub(crate) persistent: bool,
}

impl ExportFacts {
    pub(crate) fn new(name: &str, disk: &Disk) -> Self {
        Self {
            name: name.to_owned(),
            size_bytes: disk.sector_count() << disk.sector_shift(),
            sector_size: disk.sector_size(),
            read_only: disk.is_read_only(),
            persistent: disk.persistence() == Persistence::Persistent,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("texts and numbers are JSON")
    }
}

/// An export in one line: its name, and what it is.
impl fmt::Display for ExportFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = shown_name(&self.name);
        let size = Bytes(self.size_bytes);
        let access = match (self.read_only, self.persistent) {
            (true, _) => "read-only",
            (false, true) => "writable, persistent",
            (false, false) => "writable, gone when platter stops",
        };
        let sector_size = self.sector_size;
        write!(
            f,
            "{name}: {size}, sectors of {sector_size} bytes, {access}"
        )
    }
}

/// Lines that can be pasted into a shell, for the first export at the first address.
pub(crate) fn instructions(
    address: &ListenAddress,
    export: &OpenExport,
    tls: Option<&TlsConfig>,
) -> String {
    let uri = shell_quoted(&tls::uri(address, &export.name, tls));
    // QEMU does not open for writing what takes no writes.
    let read_only = match export.disk.is_read_only() {
        true => ",readonly=on",
        false => "",
    };
    let mut text = String::new();
    let mut lines = vec![format!("nbdinfo {uri}"), format!("nbdcopy {uri} copy.img")];
    // QEMU takes its certificates from an object, not from a URI.
    if !tls.is_some_and(TlsConfig::is_required) {
        lines.extend([
            format!("qemu-img info {uri}"),
            format!("qemu-system-x86_64 -m 1G -drive file={uri},format=raw,if=virtio{read_only}"),
        ]);
    }
    for line in lines {
        writeln!(text, "  {line}").expect("writing to a string succeeds");
    }
    text
}

/// The text as one word of a POSIX shell.
fn shell_quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-+@%=".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1 << 30, "1 GiB"),
            ((1 << 30) + (1 << 24), "1.01 GiB"),
            (u64::MAX, "15.99 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_name_stays_in_its_line() {
        assert_eq!(shown_name(""), "(default export)");
        assert_eq!(shown_name("vm \"1\" é"), "vm \"1\" é");
        assert_eq!(shown_name("a\nb\x1b[2J"), "a\\nb\\u{1b}[2J");
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(
            shell_quoted("nbd://127.0.0.1:10809/vm1"),
            "nbd://127.0.0.1:10809/vm1"
        );
        assert_eq!(
            shell_quoted("nbd+unix:///?socket=/run/a"),
            "'nbd+unix:///?socket=/run/a'"
        );
        assert_eq!(shell_quoted("it's"), r"'it'\''s'");
        assert_eq!(shell_quoted(""), "''");
    }
}
