//! TLS over a socket, driven by the connection's own thread.
//!
//! - L1: what [`Tls::send`] took from its caller and encrypted is counted in `committed` until all of it is in the socket; only then
//!   is the caller told. So an empty queue of replies means here, too, that everything is on its way, and the caller
//!   offers the same bytes again after `WouldBlock`.
//! - L2: a sleep for the client begins only after the socket had nothing more: neither `input` nor the connection keeps whole
//!   records back.

use super::{Interest, Socket, Transport};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

/// How much encrypted data is received with one call: several records.
const INPUT_LEN: usize = 64 * 1024;

/// One TLS session, beside the socket it uses.
#[derive(Debug)]
pub(super) struct Tls {
    connection: ServerConnection,
    /// Received and not decrypted yet: from `start` to `end`.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// How many bytes of the caller's were encrypted and are not all sent (L1).
    committed: usize,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: ServerConnection::new(config)?,
            input: vec![0; INPUT_LEN].into_boxed_slice(),
            start: 0,
            end: 0,
            committed: 0,
        })
    }

    /// Takes the handshake as far as it goes without waiting. Returns what it waits for, or `None` at its end.
    pub(super) fn shake_hands(&mut self, socket: &mut Socket) -> io::Result<Option<Interest>> {
        loop {
            if !self.flush(socket)? {
                return Ok(Some(Interest::WRITABLE));
            }
            if !self.connection.is_handshaking() {
                return Ok(None);
            }
            match self.take_in(socket, false) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(Interest::READABLE));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`Transport::receive`]. An end without a farewell is an end: requests say themselves how long they are.
    pub(super) fn receive(
        &mut self,
        socket: &mut Socket,
        into: &mut [u8],
        may_wait: bool,
    ) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            self.take_in(socket, may_wait)?;
        }
    }

    /// As [`Transport::send`].
    pub(super) fn send(&mut self, socket: &mut Socket, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.committed == 0 {
            if !self.flush(socket)? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.committed = self.connection.writer().write_vectored(parts)?;
        }
        match self.flush(socket)? {
            true => Ok(std::mem::take(&mut self.committed)),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Says goodbye, if that is possible at once.
    pub(super) fn close(&mut self, socket: &mut Socket) {
        self.connection.send_close_notify();
        // The client may be gone, and learns of the end from the socket in any case.
        let _ = self.flush(socket);
    }

    /// Receives and decrypts some bytes; 0 at the end of the stream.
    fn take_in(&mut self, socket: &mut Socket, may_wait: bool) -> io::Result<usize> {
        if self.start == self.end {
            let received = socket.receive(&mut self.input, may_wait)?;
            (self.start, self.end) = (0, received);
        }
        let mut rest = &self.input[self.start..self.end];
        let len = self.connection.read_tls(&mut rest)?;
        self.start += len;
        let processed = self.connection.process_new_packets();
        // An alert, or the answer to new keys. Whatever becomes of it, the client's error comes first.
        let flushed = self.flush(socket);
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        flushed?;
        Ok(len)
    }

    /// Sends what is encrypted; whether all of it went.
    fn flush(&mut self, socket: &mut Socket) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Sink(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// A socket as a writer that does not wait.
struct Sink<'a>(&'a mut Socket);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
