//! Requests to a live server, and what their replies say, compared with a byte array.
//!
//! The first byte chooses how requests are framed; then come bursts of requests that are under way together. Requests may be nonsense:
//! then they must fail and change nothing. At the end some bytes follow as they are, and the connection must end.

use crate::leaks::{Watch, bound_memory};
use crate::server::{Client, Offered};
use arbitrary::{Arbitrary, Result, Unstructured};
use nbd_protocol::command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, PAYLOAD_LEN, REQ_ONE};
use nbd_protocol::reply::ChunkPayload;
use nbd_protocol::{
    BASE_ALLOCATION, ChunkHeader, Command, ContextRequest, Errno, Framing, InfoRequest,
    OptionHeader, OptionKind, OptionReplyHeader, ReplyHeader, ReplyKind, Request, extent_flag,
    greeting,
};
use std::collections::BTreeMap;

static WATCH: Watch = Watch::new();
const MEMORY_BYTES_MAX: usize = 80 << 20;
const SIZE: usize = 128 << 10;
const STEPS_MAX: usize = 64;
/// So few that their data is less than what a connection may hold: the server takes all of them in without being read.
const BURST_MAX: usize = 6;

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
            let Ok(burst) = random_burst(&mut input, framing) else {
                break;
            };
            session.step(&burst);
            if burst.iter().any(Wanted::is_goodbye) {
                break;
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

impl Wanted {
    fn is_goodbye(&self) -> bool {
        self.request.command == Command::Disconnect
    }

    /// Whether it matters which of the two is done first.
    fn collides_with(&self, other: &Self) -> bool {
        let is_change =
            |wanted: &Self| !matches!(wanted.request.command, Command::Read | Command::BlockStatus);
        let (a, b) = (&self.request, &other.request);
        let end = |request: &Request| request.offset.saturating_add(request.len);
        let overlap = a.offset < end(b) && b.offset < end(a);
        a.cookie == b.cookie || overlap && (is_change(self) || is_change(other))
    }
}

/// Requests that are under way together. The last of them may end the session.
fn random_burst(input: &mut Unstructured<'_>, framing: Framing) -> Result<Vec<Wanted>> {
    let mut burst: Vec<Wanted> = Vec::new();
    for _ in 0..input.int_in_range(1..=BURST_MAX)? {
        let wanted = random_request(input, framing)?;
        if burst.iter().any(|other| other.collides_with(&wanted)) {
            break;
        }
        let is_last = wanted.is_goodbye();
        burst.push(wanted);
        if is_last {
            break;
        }
    }
    Ok(burst)
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
    /// Whether the server was told that nothing more comes.
    has_ended: bool,
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
            has_ended: false,
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

    /// Sends all at once, takes the replies in whatever order they come, and compares.
    fn step(&mut self, burst: &[Wanted]) {
        let mut bytes = Vec::new();
        for Wanted { request, data } in burst {
            bytes.extend_from_slice(&request.encode(self.framing));
            bytes.extend_from_slice(data);
        }
        self.client.send(&bytes).expect("it listens");
        let ends = |wanted: &Wanted| wanted.request.command == Command::Disconnect;
        self.has_ended |= burst.iter().any(ends);
        let requests = burst.iter().map(|wanted| wanted.request);
        let requests = requests.filter(|request| request.command != Command::Disconnect);
        let answers = self.answers(requests.collect());
        for (wanted, answer) in burst.iter().zip(answers) {
            self.judge(&wanted.request, &wanted.data, &answer);
        }
    }

    /// The replies to all requests that are under way, in the order of the requests.
    fn answers(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        let mut answers: Vec<_> = requests.iter().map(|_| Answer::default()).collect();
        let mut waiting: BTreeMap<_, _> = (0..requests.len())
            .map(|index| (requests[index].cookie, index))
            .collect();
        assert_eq!(waiting.len(), requests.len(), "each has a name of its own");
        while !waiting.is_empty() {
            let header = self.header();
            let (ReplyHeader::Simple { cookie, .. }
            | ReplyHeader::Chunk(ChunkHeader { cookie, .. })) = header;
            let index = *waiting.get(&cookie).expect("a request that is waiting");
            if self.take_reply(header, &requests[index], &mut answers[index]) {
                waiting.remove(&cookie);
            }
        }
        answers
    }

    /// Takes the rest of a message. Returns whether it was the last for its request.
    fn take_reply(&mut self, header: ReplyHeader, request: &Request, answer: &mut Answer) -> bool {
        assert!(header.allowed_in(self.framing), "{header:?}");
        let is_read = request.command == Command::Read;
        let payload_len = match header {
            ReplyHeader::Simple { errno: 0, .. } if is_read => request.len,
            ReplyHeader::Simple { .. } => 0,
            ReplyHeader::Chunk(chunk) => chunk.payload_len,
        };
        let payload = self.client.receive_vec(payload_len as usize);
        let payload = payload.expect("all of a payload");
        let chunk = match header {
            ReplyHeader::Simple { errno, .. } => {
                answer.errno = errno;
                answer.filled_len = payload.len();
                answer.data = payload;
                return true;
            }
            ReplyHeader::Chunk(chunk) => chunk,
        };
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
        chunk.is_last
    }

    fn header(&mut self) -> ReplyHeader {
        let magic = self.client.receive::<4>().expect("a reply");
        let len = ReplyHeader::len(magic).expect("the beginning of a reply");
        let mut bytes = magic.to_vec();
        bytes.resize(len, 0);
        let received = self.client.receive_into(&mut bytes[4..]);
        received.expect("all of its header");
        ReplyHeader::decode(&bytes).expect("a header")
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
            Command::Trim if !self.has_ended => self.look_after_trim(request),
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
            self.answers(vec![read]);
            return;
        }
        let found = self.answers(vec![read]).remove(0);
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
