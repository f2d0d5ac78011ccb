//! Requests to a live server, and what their replies say, compared with a byte array.
//!
//! The first byte chooses how requests are framed; then come steps, each a kind and its numbers. Requests may be nonsense: then they must
//! fail and change nothing. At the end some bytes follow as they are, and the connection must end.

use crate::leaks::{Watch, bound_memory};
use crate::server::{Client, Offered};
use arbitrary::{Arbitrary, Result, Unstructured};
use nbd_protocol::command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, PAYLOAD_LEN, REQ_ONE};
use nbd_protocol::reply::ChunkPayload;
use nbd_protocol::{
    BASE_ALLOCATION, Command, ContextRequest, Errno, Framing, InfoRequest, OptionHeader,
    OptionKind, OptionReplyHeader, ReplyHeader, ReplyKind, Request, extent_flag, greeting,
};

static WATCH: Watch = Watch::new();
const MEMORY_BYTES_MAX: usize = 80 << 20;
const SIZE: usize = 128 << 10;
const STEPS_MAX: usize = 64;

/// One run.
pub fn run(bytes: &[u8]) {
    bound_memory(MEMORY_BYTES_MAX);
    {
        let mut input = Unstructured::new(bytes);
        let framing = match input.int_in_range(0..=2) {
            Ok(1) => Framing::Structured,
            Ok(2) => Framing::Extended,
            _ => Framing::Simple,
        };
        let offered = Offered::new("disk", SIZE as u64);
        let mut session = Session::agree(offered.connect(), framing);
        // Input that has run out gives zeros for ever.
        for _ in 0..STEPS_MAX {
            if input.is_empty() || matches!(input.ratio(1_u8, 32), Ok(true) | Err(_)) {
                break;
            }
            match random_request(&mut input, framing) {
                Ok(wanted) => session.step(wanted),
                Err(_) => break,
            }
        }
        let rest = input.take_rest();
        session.client.send_beside(rest, |_| ());
    }
    WATCH.run_ended();
}

/// A request, and the data of a write.
struct Wanted {
    request: Request,
    data: Vec<u8>,
}

fn random_request(input: &mut Unstructured<'_>, framing: Framing) -> Result<Wanted> {
    let command = Command::from_code(match input.int_in_range(0..=15_u8)? {
        0..4 => 0,
        4..8 => 1,
        8 => 3,
        9 => 4,
        10 => 5,
        11..14 => 6,
        14 => 7,
        _ => u16::arbitrary(input)?,
    });
    let flags = match input.ratio(1_u8, 8)? {
        true => u16::arbitrary(input)?,
        false => u16::arbitrary(input)? & sensible_flags(command, framing),
    };
    let mut offset = u64::from(u32::arbitrary(input)?) % (SIZE as u64 + 1);
    let mut len = match input.int_in_range(0..=3_u8)? {
        0 => input.int_in_range(0..=64)?,
        1 => input.int_in_range(0..=16)? * 512,
        2 => input.int_in_range(0..=SIZE as u64)?,
        _ => SIZE as u64 - offset,
    };
    if input.ratio(1_u8, 16)? {
        offset = u64::arbitrary(input)?;
    }
    let has_payload =
        command == Command::Write || (framing == Framing::Extended && flags & PAYLOAD_LEN != 0);
    if input.ratio(1_u8, 16)? && !has_payload {
        len = match framing {
            Framing::Extended => u64::arbitrary(input)?,
            _ => u32::arbitrary(input)?.into(),
        };
    }
    let seed = u8::arbitrary(input)?;
    let data_len = if has_payload { len as usize } else { 0 };
    let data = (0..data_len).map(|at| seed.wrapping_add((at / 512 + at) as u8));
    Ok(Wanted {
        request: Request {
            command,
            flags,
            cookie: u64::arbitrary(input)?,
            offset,
            len,
        },
        data: data.collect(),
    })
}

/// Those that a client may use with a command.
fn sensible_flags(command: Command, framing: Framing) -> u16 {
    match command {
        // Without chunks a reply is in one piece anyway, and the flag is not offered.
        Command::Read if framing.has_chunks() => DF,
        Command::Write | Command::Trim => FUA,
        Command::WriteZeroes => FUA | NO_HOLE | FAST_ZERO,
        Command::BlockStatus => REQ_ONE,
        _ => 0,
    }
}

/// What came back.
#[derive(Default)]
struct Answer {
    errno: u32,
    data: Vec<u8>,
    filled_len: usize,
    extents: Vec<(u64, u64)>,
}

struct Session {
    client: Client,
    framing: Framing,
    model: Vec<u8>,
    is_over: bool,
}

impl Session {
    fn agree(mut client: Client, framing: Framing) -> Self {
        let opened = client.receive::<{ greeting::LEN }>();
        opened.expect("a server greets");
        client.send(&3_u32.to_be_bytes()).expect("it listens");
        let chosen = match framing {
            Framing::Simple => None,
            Framing::Structured => Some(OptionKind::StructuredReply),
            Framing::Extended => Some(OptionKind::ExtendedHeaders),
        };
        let mut session = Self {
            client,
            framing,
            model: vec![0; SIZE],
            is_over: false,
        };
        if let Some(option) = chosen {
            session.ask(option, &[]);
            let contexts = ContextRequest::encode("disk", &[BASE_ALLOCATION]);
            session.ask(OptionKind::SetMetaContext, &contexts);
        }
        let wanted = InfoRequest {
            export_name: "disk",
            wanted: Default::default(),
        };
        session.ask(OptionKind::Go, &wanted.encode());
        session
    }

    fn ask(&mut self, kind: OptionKind, data: &[u8]) {
        let header = OptionHeader {
            kind,
            data_len: data.len() as u32,
        };
        let sent = self.client.send(&[&header.encode()[..], data].concat());
        sent.expect("it listens");
        loop {
            let reply = self.client.receive().expect("an answer");
            let reply = OptionReplyHeader::decode(&reply).expect("a reply");
            let payload = self.client.receive_vec(reply.data_len as usize);
            payload.expect("all of it");
            if reply.kind.is_last() {
                assert_eq!(reply.kind, ReplyKind::Ack, "{kind:?}");
                return;
            }
        }
    }

    fn step(&mut self, wanted: Wanted) {
        if self.is_over {
            return;
        }
        let Wanted { request, data } = wanted;
        let head = request.encode(self.framing);
        let sent = self.client.send(&[&head[..], &data].concat());
        sent.expect("it listens");
        if request.command == Command::Disconnect {
            self.is_over = true;
            self.client.finish_sending();
            return;
        }
        let answer = self.answer(&request);
        self.judge(&request, &data, &answer);
    }

    /// All of the reply to the only request that is under way.
    fn answer(&mut self, request: &Request) -> Answer {
        let mut answer = Answer::default();
        let is_read = request.command == Command::Read;
        loop {
            let (header, payload) = self.message(request);
            assert!(header.allowed_in(self.framing), "{header:?}");
            let chunk = match header {
                ReplyHeader::Simple { errno, cookie } => {
                    assert_eq!(cookie, request.cookie);
                    answer.errno = errno;
                    answer.filled_len = payload.len();
                    answer.data = payload;
                    return answer;
                }
                ReplyHeader::Chunk(chunk) => chunk,
            };
            assert_eq!(chunk.cookie, request.cookie);
            assert!(chunk.offset.is_none_or(|offset| offset == request.offset));
            match ChunkPayload::decode(chunk.kind, &payload).expect("a chunk") {
                ChunkPayload::None => assert!(chunk.is_last),
                ChunkPayload::Data { offset, data } => {
                    assert!(is_read && offset >= request.offset);
                    answer.data.resize(request.len as usize, 0);
                    let start = (offset - request.offset) as usize;
                    answer.data[start..start + data.len()].copy_from_slice(data);
                    answer.filled_len += data.len();
                }
                ChunkPayload::BlockStatus { extents, .. } => {
                    assert_eq!(request.command, Command::BlockStatus);
                    let extents = extents.map(|extent| (extent.len, extent.value));
                    answer.extents.extend(extents);
                }
                ChunkPayload::Error { errno, .. } => answer.errno = errno.code(),
                other => panic!("this server sends no {other:?}"),
            }
            if chunk.is_last {
                return answer;
            }
        }
    }

    fn message(&mut self, request: &Request) -> (ReplyHeader, Vec<u8>) {
        let magic = self.client.receive::<4>().expect("a reply");
        let len = ReplyHeader::len(magic).expect("the beginning of a reply");
        let mut bytes = magic.to_vec();
        bytes.resize(len, 0);
        let received = self.client.receive_into(&mut bytes[4..]);
        received.expect("all of its header");
        let header = ReplyHeader::decode(&bytes).expect("a header");
        let payload_len = match header {
            ReplyHeader::Simple { errno: 0, .. } if request.command == Command::Read => request.len,
            ReplyHeader::Simple { .. } => 0,
            ReplyHeader::Chunk(chunk) => chunk.payload_len,
        };
        let payload = self.client.receive_vec(payload_len as usize);
        (header, payload.expect("all of its payload"))
    }

    fn judge(&mut self, request: &Request, data: &[u8], answer: &Answer) {
        let end = request.offset.checked_add(request.len);
        let is_inside = end.is_some_and(|end| end <= SIZE as u64);
        let announced = match self.framing {
            Framing::Extended if request.command == Command::Write => PAYLOAD_LEN,
            _ => 0,
        };
        let is_plain =
            request.flags & !sensible_flags(request.command, self.framing) & !announced == 0;
        let succeeded = answer.errno == 0;
        let is_known = !matches!(request.command, Command::Unknown(_));
        let has_range = !matches!(request.command, Command::Flush | Command::Unknown(_));
        if has_range && !is_inside {
            assert!(!succeeded, "{request:?} succeeded beyond the end");
        }
        if !is_known {
            assert!(!succeeded, "{request:?} succeeded");
        }
        let is_nothing = request.len == 0;
        let needs_chunks =
            request.command == Command::BlockStatus && self.framing == Framing::Simple;
        if is_plain && is_known && is_inside && has_range && !is_nothing && !needs_chunks {
            // Not all zeros are fast: what is no whole sector is written.
            let may_be_slow = request.has(FAST_ZERO) && answer.errno == Errno::NotSupported.code();
            assert!(
                succeeded || may_be_slow,
                "{request:?} failed with {}",
                answer.errno
            );
        }
        if !succeeded || !has_range {
            return;
        }
        let range = request.offset as usize..(request.offset + request.len) as usize;
        match request.command {
            Command::Read => {
                assert_eq!(answer.filled_len as u64, request.len, "all data, and once");
                assert!(
                    answer.data == self.model[range],
                    "{request:?} read other data"
                );
            }
            Command::Write => self.model[range].copy_from_slice(data),
            Command::WriteZeroes => self.model[range].fill(0),
            // A hint: what is trimmed is what it was, or zeros; this disk makes whole sectors zeros. Looked at, and then known.
            Command::Trim => self.look_after_trim(request),
            Command::BlockStatus => self.check_extents(request, &answer.extents),
            _ => {}
        }
    }

    fn look_after_trim(&mut self, trim: &Request) {
        let read = Request {
            command: Command::Read,
            flags: 0,
            ..*trim
        };
        let head = read.encode(self.framing);
        self.client.send(&head).expect("it listens");
        if read.len == 0 {
            self.answer(&read);
            return;
        }
        let found = self.answer(&read);
        assert_eq!(found.errno, 0);
        let start = trim.offset as usize;
        for (at, byte) in found.data.into_iter().enumerate() {
            let known = &mut self.model[start + at];
            assert!(byte == 0 || byte == *known, "a trim left garbage");
            *known = byte;
        }
    }

    /// What is called zero reads zero, and nothing lies before or behind.
    fn check_extents(&self, request: &Request, extents: &[(u64, u64)]) {
        let mut at = request.offset;
        for (len, value) in extents {
            let end = at + len;
            assert!(end <= SIZE as u64, "an extent beyond the end");
            if value & extent_flag::ZERO != 0 {
                let bytes = &self.model[at as usize..end as usize];
                assert!(
                    bytes.iter().all(|byte| *byte == 0),
                    "{at}..{end} is no zero"
                );
            }
            at = end;
        }
        assert!(at > request.offset || request.len == 0, "no extent at all");
    }
}
