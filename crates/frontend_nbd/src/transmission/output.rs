//! Replies on their way to the client: several leave with one call.
//!
//! - O1: a reply that is being sent in pieces has the line to itself from its head to its last byte; the others wait.

use crate::step::Payload;
use crate::transport::Transport;
use nbd_protocol::Head;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// How many parts go into one call.
const PARTS_MAX: usize = 64;

/// One message, or a piece of one: a head, data, or both.
#[derive(Debug)]
struct Message {
    head: Head,
    payload: Option<Payload>,
    /// How much of both has left.
    sent: usize,
}

/// The queue of replies.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<Message>,
    /// What waits for the end of a stream (O1).
    held: Option<VecDeque<Message>>,
    /// In `queue`, not sent yet.
    bytes: usize,
}

impl Output {
    /// Adds a reply.
    pub(super) fn push(&mut self, head: Head, payload: Option<Payload>) {
        let message = Message {
            head,
            payload,
            sent: 0,
        };
        match &mut self.held {
            Some(held) => held.push_back(message),
            None => self.enqueue(message),
        }
    }

    /// Begins a reply that comes in pieces.
    pub(super) fn begin_stream(&mut self, head: Head) {
        assert!(self.held.is_none(), "one stream at a time (O1)");
        self.push(head, None);
        self.held = Some(VecDeque::new());
    }

    /// Adds the next piece of the stream.
    pub(super) fn push_stream(&mut self, payload: Payload) {
        assert!(self.held.is_some(), "a piece belongs to a stream (O1)");
        self.enqueue(Message {
            head: Head::new(),
            payload: Some(payload),
            sent: 0,
        });
    }

    /// Ends the stream, and lets the others pass.
    pub(super) fn end_stream(&mut self) {
        for message in self.held.take().into_iter().flatten() {
            self.enqueue(message);
        }
    }

    /// Whether a stream is under way.
    pub(super) fn is_streaming(&self) -> bool {
        self.held.is_some()
    }

    fn enqueue(&mut self, message: Message) {
        self.bytes += message.len();
        self.queue.push_back(message);
    }

    /// How many replies are waiting.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.held.as_ref().map_or(0, VecDeque::len)
    }

    /// Whether nothing can be sent now.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many bytes could be sent now.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sends as much as goes without waiting, and returns whether anything went.
    pub(super) fn send<T: Transport>(&mut self, transport: &mut T) -> io::Result<bool> {
        let mut has_sent = false;
        while !self.queue.is_empty() {
            let mut parts: SmallVec<[IoSlice<'_>; PARTS_MAX]> = SmallVec::new();
            for message in &mut self.queue {
                if parts.len() + 2 > PARTS_MAX {
                    break;
                }
                let [head, data] = message.rest();
                parts.extend([head, data].into_iter().filter(|part| !part.is_empty()));
            }
            match transport.send(&parts) {
                Ok(len) => {
                    drop(parts);
                    self.sent(len);
                    has_sent = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(has_sent)
    }

    /// Takes `len` bytes off the front.
    fn sent(&mut self, mut len: usize) {
        self.bytes -= len;
        while let Some(first) = self.queue.front_mut() {
            let rest = first.len() - first.sent;
            if len < rest {
                first.sent += len;
                return;
            }
            len -= rest;
            self.queue.pop_front();
        }
        assert_eq!(len, 0, "more sent than there was");
    }
}

impl Message {
    fn len(&self) -> usize {
        self.head.len() + self.payload.as_ref().map_or(0, Payload::len)
    }

    /// What is still to be sent.
    fn rest(&mut self) -> [IoSlice<'_>; 2] {
        let of_head = self.sent.min(self.head.len());
        let of_data = self.sent - of_head;
        let data = match &mut self.payload {
            Some(payload) => &payload.bytes()[of_data..],
            None => &[],
        };
        [IoSlice::new(&self.head[of_head..]), IoSlice::new(data)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Span;
    use crate::transport::Interest;
    use scsi_buffers::BounceBuffer;
    use std::time::Instant;

    /// Takes a given number of bytes per call, then is full.
    struct Narrow {
        taken: Vec<u8>,
        calls: Vec<usize>,
    }

    impl Transport for Narrow {
        fn receive(&mut self, _: &mut [u8], _: bool) -> io::Result<usize> {
            unreachable!("nothing is received here")
        }

        fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
            let Some(len) = self.calls.pop() else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            let len = len.min(bytes.len());
            self.taken.extend(&bytes[..len]);
            Ok(len)
        }

        fn wait(&mut self, _: Interest, _: Option<Instant>) -> io::Result<()> {
            unreachable!("nothing is waited for here")
        }
    }

    fn head(text: &str) -> Head {
        Head::from_slice(text.as_bytes())
    }

    fn payload(text: &str) -> Payload {
        let span = Span::new(0, text.len() as u64, 9);
        let mut payload = Payload::new(BounceBuffer::unpooled(512).unwrap(), &span);
        payload.room(0).unwrap().copy_from_slice(text.as_bytes());
        payload
    }

    fn sent(output: &mut Output, calls: Vec<usize>) -> String {
        let mut narrow = Narrow {
            taken: Vec::new(),
            calls,
        };
        output.send(&mut narrow).unwrap();
        String::from_utf8(narrow.taken).unwrap()
    }

    #[test]
    fn replies_leave_in_order_whatever_each_call_takes() {
        for step in 1..8 {
            let mut output = Output::default();
            output.push(head("ab"), Some(payload("cde")));
            output.push(head("f"), None);
            output.push(head("g"), Some(payload("h")));
            assert_eq!((output.len(), output.bytes()), (3, 8));
            assert_eq!(sent(&mut output, vec![step; 8]), "abcdefgh");
            assert_eq!((output.len(), output.bytes()), (0, 0));
        }
    }

    #[test]
    fn what_does_not_fit_stays() {
        let mut output = Output::default();
        output.push(head("ab"), Some(payload("cde")));
        assert_eq!(sent(&mut output, vec![3]), "abc");
        assert_eq!(output.bytes(), 2);
        assert_eq!(sent(&mut output, vec![]), "");
        assert_eq!(sent(&mut output, vec![9]), "de");
        assert!(output.is_empty());
    }

    #[test]
    fn more_replies_than_one_call_takes_all_leave() {
        let mut output = Output::default();
        (0..100).for_each(|_| output.push(head("x"), Some(payload("y"))));
        assert_eq!(sent(&mut output, vec![usize::MAX; 4]), "xy".repeat(100));
    }

    #[test]
    fn a_stream_has_the_line_to_itself() {
        let mut output = Output::default();
        output.begin_stream(head("<"));
        output.push(head("other"), None);
        output.push_stream(payload("1"));
        assert_eq!(sent(&mut output, vec![9]), "<1");
        assert!(output.is_empty() && output.len() == 1);
        output.push_stream(payload("2"));
        output.end_stream();
        assert_eq!(sent(&mut output, vec![9]), "2other");
    }
}
