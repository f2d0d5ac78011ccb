//! Facts about replies: their bytes, and that a client reads what a server wrote.

use super::*;
use crate::Command;
use proptest::prelude::*;

const COOKIE: u64 = 0x0102_0304_0506_0708;
const REQUEST: Request = Request {
    command: Command::Read,
    flags: 0,
    cookie: COOKIE,
    offset: 0x1000,
    len: 512,
};
const CHUNKED: [Framing; 2] = [Framing::Structured, Framing::Extended];

/// The header and the payload of a whole chunk.
fn taken_apart(framing: Framing, reply: &[u8]) -> (ChunkHeader, &[u8]) {
    let header = ReplyHeader::decode(reply).unwrap();
    assert!(header.allowed_in(framing));
    let ReplyHeader::Chunk(chunk) = header else {
        panic!("{header:?} is not a chunk");
    };
    let len = ReplyHeader::len(*reply.first_chunk().unwrap()).unwrap();
    assert_eq!(chunk.cookie, COOKIE);
    assert_eq!(chunk.offset.is_some(), framing == Framing::Extended);
    assert!(chunk.offset.is_none_or(|offset| offset == REQUEST.offset));
    let payload = &reply[len..];
    if chunk.kind != ChunkKind::OffsetData {
        assert_eq!(chunk.payload_len, payload.len() as u64);
    }
    (chunk, payload)
}

#[test]
fn simple_replies_are_sixteen_bytes() {
    let ok = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(success(Framing::Simple, &REQUEST)[..], ok);
    assert_eq!(success(Framing::Structured, &REQUEST)[..], ok);
    assert_eq!(no_data(Framing::Simple, &REQUEST)[..], ok);
    assert_eq!(data(Framing::Simple, true, &REQUEST, 0, 512)[..], ok);
    let failed = error(Framing::Simple, &REQUEST, Errno::NoSpace, "not sent");
    let expected = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(failed[..], expected);
    let header = ReplyHeader::decode(&failed).unwrap();
    let (errno, cookie) = (28, COOKIE);
    assert_eq!(header, ReplyHeader::Simple { errno, cookie });
    assert!(header.allowed_in(Framing::Structured) && !header.allowed_in(Framing::Extended));
}

#[test]
fn a_chunk_of_data_says_where_it_belongs() {
    let head = data(Framing::Structured, false, &REQUEST, 0x1000, 512);
    let expected = [
        0x66, 0x8e, 0x33, 0xef, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 2, 8, 0, 0, 0, 0, 0, 0,
        0x10, 0,
    ];
    assert_eq!(head[..], expected);
    let head = data(Framing::Extended, true, &REQUEST, 0x1200, 512);
    let expected = [
        0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0x10, 0, 0,
        0, 0, 0, 0, 0, 2, 8, 0, 0, 0, 0, 0, 0, 0x12, 0,
    ];
    assert_eq!(head[..], expected);
    assert!(!head.spilled(), "no allocation for the head of data");
    let (chunk, payload) = taken_apart(Framing::Extended, &head);
    assert_eq!(
        (chunk.kind, chunk.payload_len),
        (ChunkKind::OffsetData, 520)
    );
    let offset = ChunkPayload::data_offset(payload.try_into().unwrap());
    assert_eq!(offset, 0x1200);
    let payload = [payload, b"x"].concat();
    let decoded = ChunkPayload::decode(chunk.kind, &payload);
    let data = b"x";
    assert_eq!(decoded, Ok(ChunkPayload::Data { offset, data }));
}

#[test]
fn an_error_chunk_carries_its_message() {
    for framing in CHUNKED {
        let reply = error(framing, &REQUEST, Errno::Io, "no");
        let (chunk, payload) = taken_apart(framing, &reply);
        assert!(chunk.is_last && chunk.kind.is_error());
        assert_eq!(payload, [0, 0, 0, 5, 0, 2, b'n', b'o']);
        let expected = ChunkPayload::Error {
            errno: Errno::Io,
            message: "no",
            offset: None,
        };
        assert_eq!(ChunkPayload::decode(chunk.kind, payload), Ok(expected));
        let at = [payload, &7_u64.to_be_bytes()].concat();
        let decoded = ChunkPayload::decode(ChunkKind::ErrorOffset, &at).unwrap();
        assert!(matches!(
            decoded,
            ChunkPayload::Error {
                offset: Some(7),
                ..
            }
        ));
        for len in 0..at.len() {
            assert!(ChunkPayload::decode(ChunkKind::ErrorOffset, &at[..len]).is_err());
        }
    }
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let message = "ä".repeat(ERROR_MESSAGE_LEN_MAX) + "x";
    let reply = error(Framing::Structured, &REQUEST, Errno::Io, &message);
    assert_eq!(reply.len(), 20 + 6 + ERROR_MESSAGE_LEN_MAX);
    let message = "a".to_owned() + &message;
    let reply = error(Framing::Structured, &REQUEST, Errno::Io, &message);
    assert_eq!(reply.len(), 20 + 6 + ERROR_MESSAGE_LEN_MAX - 1);
    assert!(std::str::from_utf8(&reply[26..]).is_ok());
}

#[test]
fn no_data_in_chunks_is_one_empty_chunk() {
    for framing in CHUNKED {
        let reply = no_data(framing, &REQUEST);
        let (chunk, payload) = taken_apart(framing, &reply);
        assert_eq!((chunk.is_last, chunk.kind), (true, ChunkKind::None));
        assert_eq!(
            ChunkPayload::decode(chunk.kind, payload),
            Ok(ChunkPayload::None)
        );
    }
    let extended = success(Framing::Extended, &REQUEST);
    assert_eq!(extended, no_data(Framing::Extended, &REQUEST));
}

#[test]
fn a_hole_is_a_range() {
    for framing in CHUNKED {
        let reply = hole(framing, false, &REQUEST, 0x1100, 256);
        let (chunk, payload) = taken_apart(framing, &reply);
        let (offset, len) = (0x1100, 256);
        let expected = ChunkPayload::Hole { offset, len };
        assert_eq!(ChunkPayload::decode(chunk.kind, payload), Ok(expected));
        assert!(ChunkPayload::decode(chunk.kind, &payload[1..]).is_err());
    }
}

#[test]
fn a_block_status_lists_its_extents_in_the_width_of_the_headers() {
    let extents = [(512, 0), (1024, 3)].map(|(len, value)| Extent { len, value });
    let compact = block_status(Framing::Structured, true, &REQUEST, 7, &extents);
    let expected = [
        0, 0, 0, 20, 0, 0, 0, 7, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 3,
    ];
    assert_eq!(compact[4..8], [0, 1, 0, 5]);
    assert_eq!(compact[16..], expected);
    let wide = [
        extents[0],
        Extent {
            len: 1 << 40,
            value: u64::MAX,
        },
    ];
    let extended = block_status(Framing::Extended, false, &REQUEST, 7, &wide);
    assert_eq!(extended[4..8], [0, 0, 0, 6]);
    assert_eq!(extended[32..40], [0, 0, 0, 7, 0, 0, 0, 2]);
    for (framing, reply, sent) in [
        (Framing::Structured, compact, extents),
        (Framing::Extended, extended, wide),
    ] {
        let (chunk, payload) = taken_apart(framing, &reply);
        let decoded = ChunkPayload::decode(chunk.kind, payload).unwrap();
        let ChunkPayload::BlockStatus {
            context_id: 7,
            extents,
        } = decoded
        else {
            panic!("{decoded:?}");
        };
        assert!(extents.eq(sent));
        for len in 0..payload.len() {
            let is_whole = framing == Framing::Structured && len == 12;
            let decoded = ChunkPayload::decode(chunk.kind, &payload[..len]);
            assert_eq!(decoded.is_ok(), is_whole, "{len} bytes: {decoded:?}");
        }
    }
}

#[test]
fn extents_that_are_empty_or_miscounted_are_refused() {
    let empty = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(ChunkPayload::decode(ChunkKind::BlockStatus, &empty).is_err());
    let mut two = [0; 40];
    two[7] = 2;
    two[15] = 1;
    two[31] = 1;
    assert!(ChunkPayload::decode(ChunkKind::BlockStatusExtended, &two).is_ok());
    for count in [0, 1, 3, 255] {
        two[7] = count;
        assert!(ChunkPayload::decode(ChunkKind::BlockStatusExtended, &two).is_err());
    }
}

#[test]
fn what_is_not_known_is_passed_over_unless_it_is_an_error() {
    let decoded = ChunkPayload::decode(ChunkKind::Unknown(99), b"whatever");
    assert_eq!(decoded, Ok(ChunkPayload::Unknown));
    let kind = ChunkKind::Unknown(0x8099);
    for (payload, errno) in [(&[0, 0, 0, 28, 9][..], Errno::NoSpace), (&[], Errno::Io)] {
        let decoded = ChunkPayload::decode(kind, payload).unwrap();
        assert!(matches!(decoded, ChunkPayload::Error { errno: found, .. } if found == errno));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), code: u16, magic in 0..4_usize) {
        let mut bytes = bytes;
        let magics = [0, SIMPLE_MAGIC, STRUCTURED_MAGIC, EXTENDED_MAGIC];
        let _ = ChunkPayload::decode(ChunkKind::from_code(code % 8), &bytes);
        let _ = ChunkPayload::decode(ChunkKind::from_code(0x8000 | (code % 4)), &bytes);
        bytes.splice(..bytes.len().min(4), magics[magic].to_be_bytes());
        let _ = ReplyHeader::decode(&bytes);
        prop_assert_eq!(ChunkKind::from_code(code).code(), code);
    }
}
