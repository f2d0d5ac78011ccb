//! A socket that may change to TLS once.

use super::tls::Tls;
use super::{Interest, Socket, Transport};
use rustls::ServerConfig;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

/// The way to one client.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: Socket,
    tls: Option<Box<Tls>>,
}

impl Channel {
    /// In the clear.
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// What comes and goes from now on is encrypted; first of all comes [`shake_hands`](Self::shake_hands).
    pub(crate) fn begin_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        self.tls = Some(Box::new(Tls::new(config)?));
        Ok(())
    }

    /// Takes the handshake of TLS as far as it goes without waiting. Returns what it waits for, or `None` at its end.
    pub(crate) fn shake_hands(&mut self) -> io::Result<Option<Interest>> {
        match &mut self.tls {
            Some(tls) => tls.shake_hands(&mut self.socket),
            None => Ok(None),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.socket);
        }
    }
}

impl Transport for Channel {
    fn receive(&mut self, into: &mut [u8], may_wait: bool) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.receive(&mut self.socket, into, may_wait),
            None => self.socket.receive(into, may_wait),
        }
    }

    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.send(&mut self.socket, parts),
            None => self.socket.send(parts),
        }
    }

    fn wait(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        self.socket.wait(interest, deadline)
    }
}
