//! Bytes that were received and not yet understood: many small requests arrive with one call.

use nbd_protocol::Framing;

/// Room for a good many small requests. What a large write brings goes past it, to where it is needed.
const CAPACITY: usize = 64 * 1024;

/// A queue of bytes.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next header, of `len` bytes, if it is there whole.
    pub(super) fn take_header(&mut self, len: usize) -> Option<&[u8]> {
        let header = self.bytes[self.start..self.end].get(..len)?;
        self.start += len;
        Some(header)
    }

    /// Moves what there is to the front of `into`, and returns how much that was.
    pub(super) fn take_into(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.end - self.start);
        into[..len].copy_from_slice(&self.bytes[self.start..self.start + len]);
        self.start += len;
        len
    }

    /// Forgets up to `len` bytes, and returns how many.
    pub(super) fn skip(&mut self, len: usize) -> usize {
        let len = len.min(self.end - self.start);
        self.start += len;
        len
    }

    /// Where to receive more; never empty, because less than a header is left when more is wanted.
    pub(super) fn room(&mut self) -> &mut [u8] {
        debug_assert!(self.end - self.start < Framing::Extended.request_len());
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }

    /// Adds `len` bytes that were received into [`room`](Self::room).
    pub(super) fn received(&mut self, len: usize) {
        self.end += len;
        assert!(
            self.end <= self.bytes.len(),
            "more received than there was room"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(input: &mut Input, bytes: &[u8]) {
        input.room()[..bytes.len()].copy_from_slice(bytes);
        input.received(bytes.len());
    }

    #[test]
    fn headers_come_out_whole_however_they_went_in() {
        let mut input = Input::new();
        for framing in [Framing::Structured, Framing::Extended] {
            let header: Vec<u8> = (0..framing.request_len()).map(|i| i as u8).collect();
            for split in 0..header.len() {
                receive(&mut input, &header[..split]);
                assert_eq!(input.take_header(header.len()), None);
                receive(&mut input, &header[split..]);
                assert_eq!(input.take_header(header.len()), Some(&header[..]));
                assert!(input.is_empty());
            }
        }
    }

    #[test]
    fn a_payload_is_taken_as_far_as_it_is_there() {
        let mut input = Input::new();
        receive(&mut input, b"abcdef");
        let mut into = [0; 4];
        assert_eq!(input.take_into(&mut into), 4);
        assert_eq!(&into, b"abcd");
        assert_eq!(input.take_into(&mut into), 2);
        assert_eq!(&into, b"efcd");
        assert_eq!(input.skip(1), 0);
    }

    #[test]
    fn skipping_stops_at_what_is_there() {
        let mut input = Input::new();
        receive(&mut input, b"abc");
        assert_eq!(input.skip(2), 2);
        assert_eq!(input.skip(2), 1);
        assert!(input.is_empty());
    }
}
