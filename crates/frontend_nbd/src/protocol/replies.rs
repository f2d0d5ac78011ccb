//! The messages that answer requests.

use super::errno::Errno;
use smallvec::SmallVec;

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;

const FLAG_DONE: u16 = 1 << 0;

const TYPE_NONE: u16 = 0;
const TYPE_OFFSET_DATA: u16 = 1;
const TYPE_BLOCK_STATUS: u16 = 5;
const TYPE_ERROR: u16 = (1 << 15) | 1;

/// What goes before the data of a reply, or is all of it. The headers of data fit without a heap allocation.
pub(crate) type Head = SmallVec<[u8; 32]>;

/// The longest message that explains an error, in bytes.
pub(crate) const ERROR_MESSAGE_LEN_MAX: usize = 512;

/// One extent of a block status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// In bytes.
    pub(crate) len: u32,
    /// Of [`extent_flag`](super::extent_flag).
    pub(crate) flags: u32,
}

/// The kind of replies that a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyStyle {
    /// An errno, then for a successful read the data.
    Simple,
    /// Chunks with a type and a length each.
    Structured,
}

/// Success of anything but a read, which a simple reply may tell in either style: it is shorter, and clients take it with one
/// call less.
pub(crate) fn success(cookie: u64) -> Head {
    simple(0, cookie)
}

/// Success of a read of nothing.
pub(crate) fn no_data(style: ReplyStyle, cookie: u64) -> Head {
    match style {
        ReplyStyle::Simple => simple(0, cookie),
        ReplyStyle::Structured => chunk(true, TYPE_NONE, cookie, 0),
    }
}

/// Failure. A structured reply explains it.
pub(crate) fn error(style: ReplyStyle, cookie: u64, errno: Errno, message: &str) -> Head {
    match style {
        ReplyStyle::Simple => simple(errno.code(), cookie),
        ReplyStyle::Structured => {
            let message = truncated(message, ERROR_MESSAGE_LEN_MAX);
            let payload_len = 4 + 2 + message.len();
            let mut head = chunk(true, TYPE_ERROR, cookie, payload_len as u32);
            head.extend_from_slice(&errno.code().to_be_bytes());
            head.extend_from_slice(&(message.len() as u16).to_be_bytes());
            head.extend_from_slice(message.as_bytes());
            head
        }
    }
}

/// The head of a simple reply with all data of a read, which follows.
pub(crate) fn simple_data(cookie: u64) -> Head {
    simple(0, cookie)
}

/// The head of a chunk of `data_len` bytes of a read, which follow; `offset` counts from the start of the export.
pub(crate) fn data_chunk(is_last: bool, cookie: u64, offset: u64, data_len: u32) -> Head {
    let mut head = chunk(is_last, TYPE_OFFSET_DATA, cookie, 8 + data_len);
    head.extend_from_slice(&offset.to_be_bytes());
    head
}

/// The whole answer to a block status.
pub(crate) fn block_status(cookie: u64, context_id: u32, extents: &[Descriptor]) -> Head {
    let payload_len = 4 + extents.len() * 8;
    let mut reply = chunk(true, TYPE_BLOCK_STATUS, cookie, payload_len as u32);
    reply.extend_from_slice(&context_id.to_be_bytes());
    for extent in extents {
        reply.extend_from_slice(&extent.len.to_be_bytes());
        reply.extend_from_slice(&extent.flags.to_be_bytes());
    }
    reply
}

fn simple(error: u32, cookie: u64) -> Head {
    let mut head = Head::new();
    head.extend_from_slice(&SIMPLE_MAGIC.to_be_bytes());
    head.extend_from_slice(&error.to_be_bytes());
    head.extend_from_slice(&cookie.to_be_bytes());
    head
}

fn chunk(is_last: bool, chunk_type: u16, cookie: u64, payload_len: u32) -> Head {
    let flags = if is_last { FLAG_DONE } else { 0 };
    let mut head = Head::new();
    head.extend_from_slice(&STRUCTURED_MAGIC.to_be_bytes());
    head.extend_from_slice(&flags.to_be_bytes());
    head.extend_from_slice(&chunk_type.to_be_bytes());
    head.extend_from_slice(&cookie.to_be_bytes());
    head.extend_from_slice(&payload_len.to_be_bytes());
    head
}

/// The beginning of `text`, whole characters only.
fn truncated(text: &str, len_max: usize) -> &str {
    &text[..text.floor_char_boundary(len_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: u64 = 0x0102_0304_0506_0708;

    #[test]
    fn simple_replies_are_sixteen_bytes() {
        let ok = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(success(COOKIE)[..], ok);
        assert_eq!(no_data(ReplyStyle::Simple, COOKIE)[..], ok);
        assert_eq!(simple_data(COOKIE)[..], ok);
        let failed = error(ReplyStyle::Simple, COOKIE, Errno::NoSpace, "not sent");
        assert_eq!(
            failed[..],
            [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 1, 2, 3, 4, 5, 6, 7, 8]
        );
    }

    #[test]
    fn a_chunk_of_data_says_where_it_belongs() {
        let head = data_chunk(false, COOKIE, 0x1000, 512);
        let expected = [
            0x66, 0x8e, 0x33, 0xef, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 2, 8, 0, 0, 0, 0, 0,
            0, 0x10, 0,
        ];
        assert_eq!(head[..], expected);
        assert!(!head.spilled());
        assert_eq!(data_chunk(true, COOKIE, 0, 512)[4..6], [0, 1]);
    }

    #[test]
    fn an_error_chunk_carries_its_message() {
        let reply = error(ReplyStyle::Structured, COOKIE, Errno::Io, "no");
        assert_eq!(reply[4..8], [0, 1, 0x80, 1]);
        assert_eq!(reply[16..], [0, 0, 0, 8, 0, 0, 0, 5, 0, 2, b'n', b'o']);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = "ä".repeat(ERROR_MESSAGE_LEN_MAX) + "x";
        let reply = error(ReplyStyle::Structured, COOKIE, Errno::Io, &message);
        assert_eq!(reply.len(), 20 + 6 + ERROR_MESSAGE_LEN_MAX);
        assert!(std::str::from_utf8(&reply[26..]).is_ok());
        assert_eq!(truncated("aä", 2), "a");
    }

    #[test]
    fn a_block_status_lists_its_extents() {
        let reply = block_status(
            COOKIE,
            7,
            &[
                Descriptor { len: 512, flags: 0 },
                Descriptor {
                    len: 1024,
                    flags: 3,
                },
            ],
        );
        assert_eq!(reply[4..8], [0, 1, 0, 5]);
        assert_eq!(
            reply[16..],
            [
                0, 0, 0, 20, 0, 0, 0, 7, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 3
            ]
        );
    }

    #[test]
    fn no_data_in_chunks_is_one_empty_chunk() {
        let reply = no_data(ReplyStyle::Structured, COOKIE);
        assert_eq!(reply[4..8], [0, 1, 0, 0]);
        assert_eq!(reply[16..], [0, 0, 0, 0]);
    }
}
