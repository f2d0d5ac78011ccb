//! `STARTTLS`: what follows is encrypted, and begins anew.

use super::{Handshake, Stop, violation};
use crate::session::{End, SessionError};
use nbd_protocol::{Framing, Malformed, OptionHeader, OptionKind, ReplyKind};

impl Handshake<'_> {
    /// Whether the option must wait until TLS is in use.
    pub(super) fn needs_tls(&self, kind: OptionKind) -> bool {
        let is_required = self.hall.tls().is_some_and(|tls| tls.is_required());
        let is_free = matches!(kind, OptionKind::StartTls | OptionKind::Abort);
        is_required && !is_free && !self.transport.is_secure()
    }

    pub(super) fn refuse_without_tls(&mut self, option: OptionHeader) -> Result<(), Stop> {
        if option.kind == OptionKind::ExportName {
            return violation("the client chose an export without TLS, which is required here");
        }
        self.skip(option.data_len)?;
        self.reply(option, ReplyKind::TlsRequired, b"only with TLS: STARTTLS");
        Ok(())
    }

    /// Changes to TLS. Nothing that was agreed on in the clear counts afterwards: somebody else may have done it.
    pub(super) fn start_tls(
        &mut self,
        option: OptionHeader,
        data: &[u8],
    ) -> Result<Result<(), Malformed>, Stop> {
        let Some(tls) = self.hall.tls() else {
            self.reply(option, ReplyKind::Unsupported, b"");
            return Ok(Ok(()));
        };
        if self.transport.is_secure() {
            return Ok(Err(Malformed("TLS is in use already")));
        }
        if !data.is_empty() {
            return Ok(Err(super::answers::NO_DATA_WANTED));
        }
        self.reply(option, ReplyKind::Ack, b"");
        self.send()?;
        let begun = self.transport.begin_tls(tls.server());
        begun.map_err(|error| SessionError::Tls(std::io::Error::other(error)))?;
        loop {
            match self.transport.shake_hands() {
                Ok(None) => break,
                Ok(Some(interest)) => self.wait(interest)?,
                Err(_) if self.wakeup.is_stopping() => return Err(Stop::Ended(End::Stopped)),
                Err(error) => return Err(SessionError::Tls(error).into()),
            }
        }
        self.framing = Framing::Simple;
        self.contexts = None;
        Ok(Ok(()))
    }
}
