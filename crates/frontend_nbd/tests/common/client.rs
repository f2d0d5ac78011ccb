//! An NBD client written byte by byte from the protocol's text: it shares nothing with the server.

pub(crate) use super::wire::*;

use super::DEADLINE;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Which replies a client negotiates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Simple,
    Structured,
    /// Structured, with headers of 64 bits.
    Extended,
}

pub(crate) const STYLES: [Style; 3] = [Style::Simple, Style::Structured, Style::Extended];

/// A connection.
pub(crate) struct Client {
    stream: UnixStream,
    style: Style,
    /// By cookie: requests that are not answered, and what has come of their answers.
    waiting: BTreeMap<u64, Waiting>,
    next_cookie: u64,
    pub(crate) size: u64,
    pub(crate) flags: u16,
}

struct Waiting {
    command: u16,
    offset: u64,
    len: u64,
    answer: Answer,
    /// Where data has come to, as offsets from the request's.
    filled: Vec<bool>,
}

/// A request's whole answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) cookie: u64,
    /// 0 for success.
    pub(crate) errno: u32,
    pub(crate) message: String,
    pub(crate) data: Vec<u8>,
    /// Lengths and flags of `base:allocation`.
    pub(crate) extents: Vec<(u64, u64)>,
    /// Lengths and numbers of `platter:layer`.
    pub(crate) layers: Vec<(u64, u64)>,
    pub(crate) chunk_count: usize,
}

/// A reply to an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OptionReply {
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream
            .set_write_timeout(Some(DEADLINE))
            .expect("a deadline");
        Self {
            stream,
            style: Style::Simple,
            waiting: BTreeMap::new(),
            next_cookie: 0x1_0000_0001,
            size: 0,
            flags: 0,
        }
    }

    pub(crate) fn into_stream(self) -> UnixStream {
        self.stream
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
    }

    pub(crate) fn receive<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream
            .read_exact(&mut bytes)
            .expect("the server answers");
        bytes
    }

    pub(crate) fn receive_vec(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream
            .read_exact(&mut bytes)
            .expect("the server answers");
        bytes
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.receive())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.receive())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.receive())
    }

    /// Nothing more will be sent; the server may still answer.
    pub(crate) fn finish_sending(&mut self) {
        // The server may have closed the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends, unless the server has closed the connection.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if is_closed(&error) => false,
            Err(error) => panic!("the server does not take it: {error}"),
        }
    }

    /// Whether the server says anything more before it closes the connection.
    pub(crate) fn is_answered(&mut self) -> bool {
        let mut first = [0; 1];
        let peeked = rustix::net::recv(&self.stream, &mut first, rustix::net::RecvFlags::PEEK);
        match peeked.map_err(std::io::Error::from) {
            Ok((_, len)) => len > 0,
            Err(error) if is_closed(&error) => false,
            Err(error) => panic!("the server does not answer: {error}"),
        }
    }

    /// Greets the server, unless it has closed the connection.
    pub(crate) fn try_greet(&mut self) -> bool {
        if !self.is_answered() {
            return false;
        }
        self.receive::<18>();
        self.try_send(&3_u32.to_be_bytes())
    }

    /// What the server sends until it closes the connection.
    pub(crate) fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server does not close the connection: {error}"),
        }
        bytes
    }

    /// The server closes the connection without a further word.
    pub(crate) fn expect_closed(&mut self) {
        assert_eq!(self.drain(), [0; 0]);
    }

    pub(crate) fn greet(&mut self, flags: u32) {
        assert_eq!(&self.receive(), b"NBDMAGIC");
        assert_eq!(&self.receive(), b"IHAVEOPT");
        assert_eq!(self.u16(), 3, "fixed newstyle, and no zeroes");
        self.send(&flags.to_be_bytes());
    }

    pub(crate) fn send_option(&mut self, code: u32, data: &[u8]) {
        self.send(&option(code, data));
    }

    pub(crate) fn option_reply(&mut self, code: u32) -> OptionReply {
        assert_eq!(self.u64(), 0x3_e889_0455_65a9);
        assert_eq!(self.u32(), code);
        let kind = self.u32();
        let len = self.u32();
        let data = self.receive_vec(len as usize);
        OptionReply { kind, data }
    }

    /// All replies to an option, up to the last.
    pub(crate) fn ask(&mut self, code: u32, data: &[u8]) -> Vec<OptionReply> {
        self.send_option(code, data);
        let mut replies = Vec::new();
        loop {
            let reply = self.option_reply(code);
            let is_last = reply.kind == REP_ACK || reply.kind >> 31 == 1;
            replies.push(reply);
            if is_last {
                return replies;
            }
        }
    }

    /// The kind of the only reply to an option.
    pub(crate) fn ask_kind(&mut self, code: u32, data: &[u8]) -> u32 {
        let replies = self.ask(code, data);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies[0].kind
    }

    pub(crate) fn negotiate_structured(&mut self) {
        assert_eq!(self.ask_kind(OPT_STRUCTURED_REPLY, &[]), REP_ACK);
        self.style = Style::Structured;
    }

    pub(crate) fn negotiate_extended(&mut self) {
        assert_eq!(self.ask_kind(OPT_EXTENDED_HEADERS, &[]), REP_ACK);
        self.style = Style::Extended;
    }

    /// Negotiates `style`, block status where it can be had, and the export `name`.
    pub(crate) fn go(&mut self, name: &str, style: Style) {
        self.go_with(name, style, &["base:allocation"]);
    }

    /// The same with these contexts, each of which must be offered.
    pub(crate) fn go_with(&mut self, name: &str, style: Style, queries: &[&str]) {
        match style {
            Style::Simple => {}
            Style::Structured => self.negotiate_structured(),
            Style::Extended => self.negotiate_extended(),
        }
        if style != Style::Simple {
            let replies = self.ask(OPT_SET_META_CONTEXT, &contexts(name, queries));
            assert_eq!(replies.len(), queries.len() + 1, "{replies:?}");
        }
        let replies = self.ask(OPT_GO, &info_request(name, &[]));
        assert_eq!(replies.last().map(|last| last.kind), Some(REP_ACK));
        let export = replies.iter().find(|reply| reply.data.starts_with(&[0, 0]));
        let export = &export.expect("information on the export").data;
        self.size = u64::from_be_bytes(export[2..10].try_into().expect("eight bytes"));
        self.flags = u16::from_be_bytes(export[10..].try_into().expect("two bytes"));
    }

    /// The export is chosen by a message that the test received itself.
    pub(crate) fn entered(&mut self, size: u64) {
        self.size = size;
    }

    /// Sends a request, with `payload` if it is a write, and returns its cookie.
    pub(crate) fn send_request(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        len: u32,
        payload: &[u8],
    ) -> u64 {
        self.send_long(command, flags, offset, len.into(), payload)
    }

    /// The same with a length that may need an extended header.
    pub(crate) fn send_long(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        len: u64,
        payload: &[u8],
    ) -> u64 {
        let cookie = self.expect_answer(command, offset, len);
        let header = self.header(command, flags, cookie, offset, len);
        self.send(&header);
        self.send(payload);
        cookie
    }

    /// The header of a request; that of a write says that it has a payload, where it must.
    pub(crate) fn header(
        &self,
        command: u16,
        flags: u16,
        cookie: u64,
        offset: u64,
        len: u64,
    ) -> Vec<u8> {
        let announced = if command == WRITE { PAYLOAD_LEN } else { 0 };
        match self.style {
            Style::Extended => extended_request(command, flags | announced, cookie, offset, len),
            _ => request(
                command,
                flags,
                cookie,
                offset,
                len.try_into().expect("32 bits"),
            ),
        }
    }

    /// Notes a request that the test sends itself, and returns the cookie for it.
    pub(crate) fn expect_answer(&mut self, command: u16, offset: u64, len: u64) -> u64 {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let answer = Answer {
            cookie,
            ..Answer::default()
        };
        let waiting = Waiting {
            command,
            offset,
            len,
            answer,
            filled: Vec::new(),
        };
        self.waiting.insert(cookie, waiting);
        cookie
    }

    /// How many requests are not answered.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// The next answer that is complete, to whichever request.
    pub(crate) fn answer(&mut self) -> Answer {
        loop {
            let cookie = match self.u32() {
                0x6744_6698 if self.style != Style::Extended => self.simple_reply(),
                0x668e_33ef if self.style == Style::Structured => self.chunk(),
                0x6e8a_278c if self.style == Style::Extended => self.chunk(),
                magic => panic!("a reply begins with {magic:#x}"),
            };
            if let Some(cookie) = cookie {
                let waiting = self.waiting.remove(&cookie).expect("it is waiting");
                waiting.check_complete();
                return waiting.answer;
            }
        }
    }

    fn simple_reply(&mut self) -> Option<u64> {
        let errno = self.u32();
        let cookie = self.u64();
        let waiting = self.waiting.get_mut(&cookie).expect("a request of mine");
        let has_chunks = matches!(waiting.command, READ | BLOCK_STATUS);
        let is_structured = self.style == Style::Structured;
        assert!(
            !(is_structured && has_chunks),
            "a simple reply to {}",
            waiting.command
        );
        waiting.answer.errno = errno;
        if waiting.command == READ && errno == 0 {
            let len = waiting.len as usize;
            let data = self.receive_vec(len);
            let waiting = self.waiting.get_mut(&cookie).expect("a request of mine");
            waiting.answer.data = data;
            waiting.filled = vec![true; len];
        }
        Some(cookie)
    }

    /// Returns the cookie if it was the last chunk.
    fn chunk(&mut self) -> Option<u64> {
        let flags = self.u16();
        let kind = self.u16();
        let cookie = self.u64();
        let is_extended = self.style == Style::Extended;
        if is_extended {
            let offset = self.u64();
            let waiting = self.waiting.get(&cookie).expect("a request of mine");
            assert_eq!(offset, waiting.offset);
        }
        let len = match is_extended {
            true => self.u64() as usize,
            false => self.u32() as usize,
        };
        assert!(len < 64 << 20, "a chunk of {len} bytes");
        let payload = self.receive_vec(len);
        let waiting = self.waiting.get_mut(&cookie).expect("a request of mine");
        waiting.answer.chunk_count += 1;
        match kind {
            0 => assert_eq!((flags, len), (1, 0)),
            1 => waiting.take_data(&payload),
            5 if !is_extended => waiting.take_extents(&payload, 4),
            6 if is_extended => waiting.take_extents(&payload, 8),
            0x8001 => waiting.take_error(&payload),
            _ => panic!("a chunk of kind {kind:#x}"),
        }
        (flags & 1 == 1).then_some(cookie)
    }

    /// Sends a request and waits for its answer; no other may be waiting.
    pub(crate) fn call(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        len: u32,
        payload: &[u8],
    ) -> Answer {
        assert_eq!(self.waiting_count(), 0);
        let cookie = self.send_request(command, flags, offset, len, payload);
        let answer = self.answer();
        assert_eq!(answer.cookie, cookie);
        answer
    }

    /// The errno of a request without a payload.
    pub(crate) fn errno(&mut self, command: u16, flags: u16, offset: u64, len: u32) -> u32 {
        self.call(command, flags, offset, len, &[]).errno
    }

    pub(crate) fn read(&mut self, offset: u64, len: u32) -> Vec<u8> {
        let answer = self.call(READ, 0, offset, len, &[]);
        assert_eq!(answer.errno, 0, "{}", answer.message);
        answer.data
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let answer = self.call(WRITE, 0, offset, data.len() as u32, data);
        assert_eq!(answer.errno, 0, "{}", answer.message);
    }

    /// Says goodbye, and waits until the server has closed the connection.
    pub(crate) fn disconnect(mut self) {
        let goodbye = self.header(DISC, 0, 0, 0, 0);
        self.send(&goodbye);
        self.expect_closed();
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

impl Waiting {
    fn take_data(&mut self, payload: &[u8]) {
        assert_eq!(self.command, READ);
        let (offset, data) = payload.split_first_chunk().expect("an offset");
        assert!(!data.is_empty(), "a chunk of no data");
        let start = u64::from_be_bytes(*offset).checked_sub(self.offset);
        let start = start.expect("inside the request") as usize;
        let range = start..start + data.len();
        self.answer.data.resize(self.len as usize, 0);
        self.filled.resize(self.len as usize, false);
        self.answer.data[range.clone()].copy_from_slice(data);
        let filled = &mut self.filled[range];
        assert!(!filled.contains(&true), "the same bytes came twice");
        filled.fill(true);
    }

    /// `width` is that of a length, or of a value, in bytes.
    fn take_extents(&mut self, payload: &[u8], width: usize) {
        assert_eq!(self.command, BLOCK_STATUS);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |all, byte| all << 8 | u64::from(*byte))
        };
        let mut rest = &payload[4..];
        if width == 8 {
            let count = number(&rest[..4]);
            rest = &rest[4..];
            assert_eq!(rest.len() as u64, count * 16, "the count of extents");
        }
        assert!(rest.len().is_multiple_of(2 * width) && !rest.is_empty());
        let pairs = rest.chunks(2 * width);
        let pairs = pairs.map(|pair| (number(&pair[..width]), number(&pair[width..])));
        let into = match number(&payload[..4]) {
            1 => &mut self.answer.extents,
            2 => &mut self.answer.layers,
            other => panic!("no context has the number {other}"),
        };
        assert!(into.is_empty(), "a context is answered once");
        into.extend(pairs);
    }

    fn take_error(&mut self, payload: &[u8]) {
        let errno = payload[..4].try_into().expect("four bytes");
        self.answer.errno = u32::from_be_bytes(errno);
        assert_ne!(self.answer.errno, 0);
        let len = payload[4..6].try_into().expect("two bytes");
        assert_eq!(usize::from(u16::from_be_bytes(len)), payload.len() - 6);
        self.answer.message = String::from_utf8(payload[6..].to_vec()).expect("text");
    }

    /// A read that succeeded has brought every byte.
    fn check_complete(&self) {
        if self.command == READ && self.answer.errno == 0 {
            assert_eq!(self.filled.len(), self.len as usize);
            assert!(!self.filled.contains(&false), "bytes of a read are missing");
        }
    }
}
