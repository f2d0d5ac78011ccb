//! The handshake: the client looks around, agrees on extensions, and chooses an export.
//!
//! Nothing else happens on the connection meanwhile, so this simply waits for one message after the other. It holds one option
//! and the reply to it at a time, both bounded.

mod answers;
mod start_tls;

use crate::connection::Hall;
use crate::exports::{NoPlace, Offer, Place};
use crate::protocol::contexts::ContextSet;
use crate::session::{End, SessionError};
use crate::transport::{Channel, Interest, Transport};
use crate::wakeup::Wakeup;
use nbd_protocol::greeting::{self, FIXED_NEWSTYLE, NO_ZEROES};
use nbd_protocol::{Framing, OptionHeader, OptionKind, ReplyKind, check_string};
use std::io::{self, IoSlice};
use std::sync::Weak;
use std::time::Instant;

/// The longest data of an option that is looked at, in bytes.
const OPTION_LEN_MAX: u32 = 64 * 1024;
/// The longest data of an option that is read past, in bytes, so that the client can be told.
const OPTION_LEN_SKIPPED_MAX: u32 = 32 << 20;
/// How many options a client may send: some per export of the longest lists.
const OPTIONS_MAX: usize = 16 * 1024;
/// When replies are sent before the option is fully answered.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// What both sides agreed on.
#[derive(Debug)]
pub(crate) struct Agreement {
    pub(crate) export: Place,
    pub(crate) framing: Framing,
    /// What a block status tells.
    pub(crate) contexts: ContextSet,
}

/// How a handshake ends in order.
#[derive(Debug)]
pub(crate) enum Outcome {
    Agreed(Agreement),
    Ended(End),
}

/// Greets the client and answers its options until it has chosen an export, or leaves.
pub(crate) fn negotiate(
    transport: &mut Channel,
    wakeup: &Wakeup,
    hall: &Hall<'_>,
) -> Result<Outcome, SessionError> {
    let mut handshake = Handshake {
        transport,
        wakeup,
        hall,
        deadline: hall.deadline(),
        has_client_spoken: false,
        out: Vec::new(),
        wants_padding: true,
        framing: Framing::Simple,
        contexts: None,
    };
    let result = match handshake.greet() {
        Ok(()) => handshake.answer_options(),
        Err(error) => Err(error),
    };
    match result {
        Err(Stop::Ended(end)) => Ok(Outcome::Ended(end)),
        // Whether it has gone, or only listens: nothing came of it.
        Err(Stop::Failed(_)) if !handshake.has_client_spoken => Ok(Outcome::Ended(End::Silent)),
        Err(Stop::Failed(error)) => Err(error),
        Ok(agreement) => Ok(Outcome::Agreed(agreement)),
    }
}

struct Handshake<'a> {
    transport: &'a mut Channel,
    wakeup: &'a Wakeup,
    hall: &'a Hall<'a>,
    /// When the client must have chosen.
    deadline: Option<Instant>,
    has_client_spoken: bool,
    /// Replies that are not sent yet.
    out: Vec<u8>,
    wants_padding: bool,
    framing: Framing,
    /// The contexts that the client chose, and the export for which; it is not kept from being removed.
    contexts: Option<(Weak<Offer>, ContextSet)>,
}

/// Why a handshake goes no further.
enum Stop {
    Ended(End),
    Failed(SessionError),
}

impl From<SessionError> for Stop {
    fn from(error: SessionError) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

fn violation<T>(text: impl Into<String>) -> Result<T, Stop> {
    Err(SessionError::Violation(text.into()).into())
}

impl Handshake<'_> {
    fn greet(&mut self) -> Result<(), Stop> {
        self.out
            .extend(greeting::encode(FIXED_NEWSTYLE | NO_ZEROES));
        self.send()?;
        let mut flags = [0; 4];
        self.receive(&mut flags, "the client's flags", true)?;
        let flags = u32::from_be_bytes(flags);
        if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
            return violation(format!("unknown client flags {flags:#010x}"));
        }
        self.wants_padding = flags & u32::from(NO_ZEROES) == 0;
        Ok(())
    }

    fn answer_options(&mut self) -> Result<Agreement, Stop> {
        for _ in 0..OPTIONS_MAX {
            let mut header = [0; OptionHeader::LEN];
            self.receive(&mut header, "an option", true)?;
            let option = OptionHeader::decode(&header).or_else(|magic| {
                violation(format!(
                    "an option begins with {magic:#018x}, not with IHAVEOPT"
                ))
            })?;
            if let Some(agreement) = self.answer(option)? {
                return Ok(agreement);
            }
            self.send()?;
        }
        violation(format!(
            "more than {OPTIONS_MAX} options and no export chosen"
        ))
    }

    fn answer(&mut self, option: OptionHeader) -> Result<Option<Agreement>, Stop> {
        let kind = option.kind;
        if self.needs_tls(kind) {
            return self.refuse_without_tls(option).map(|()| None);
        }
        if option.data_len > OPTION_LEN_MAX {
            if kind == OptionKind::ExportName {
                return violation(format!("an export name of {} bytes", option.data_len));
            }
            self.skip(option.data_len)?;
            let kind = match kind {
                OptionKind::StartTls if self.hall.tls().is_none() => ReplyKind::Unsupported,
                OptionKind::Unknown(_) => ReplyKind::Unsupported,
                _ => ReplyKind::TooBig,
            };
            self.reply(option, kind, b"the option is longer than 64 KiB");
            return Ok(None);
        }
        let mut data = vec![0; option.data_len as usize];
        self.receive(&mut data, "an option", false)?;
        let data = &data[..];
        let answered = match kind {
            OptionKind::ExportName => return self.enter_by_name(data).map(Some),
            OptionKind::Abort => {
                self.reply(option, ReplyKind::Ack, b"");
                // A client may be gone already, without waiting for this.
                let _ = self.send();
                return Err(Stop::Ended(End::Disconnected));
            }
            OptionKind::List => self.list(option, data)?,
            OptionKind::Info => self.info(option, data).map(|_| ()),
            OptionKind::Go => match self.info(option, data) {
                Ok(Some(place)) => {
                    self.send()?;
                    return Ok(Some(self.agreement(place)));
                }
                Ok(None) => Ok(()),
                Err(malformed) => Err(malformed),
            },
            OptionKind::StructuredReply => self.reframe(option, data, Framing::Structured),
            OptionKind::ExtendedHeaders => self.reframe(option, data, Framing::Extended),
            OptionKind::ListMetaContext | OptionKind::SetMetaContext => self.contexts(option, data),
            OptionKind::StartTls => self.start_tls(option, data)?,
            OptionKind::Unknown(_) => {
                self.reply(option, ReplyKind::Unsupported, b"");
                Ok(())
            }
        };
        if let Err(malformed) = answered {
            self.reply(option, ReplyKind::Invalid, malformed.0.as_bytes());
        }
        Ok(None)
    }

    /// `EXPORT_NAME`, which can only be refused by closing the connection.
    fn enter_by_name(&mut self, data: &[u8]) -> Result<Agreement, Stop> {
        let name = match check_string(data) {
            Ok(name) => name,
            Err(malformed) => return violation(malformed.0),
        };
        let found = self.hall.find(name).ok_or(NoPlace::Removed);
        let export = match found.and_then(|export| self.hall.enter(&export)) {
            Ok(export) => export,
            Err(NoPlace::Removed) => {
                return Err(SessionError::UnknownExport(name.to_owned()).into());
            }
            Err(NoPlace::Full) => return Err(Stop::Ended(End::Refused)),
        };
        self.out.extend(export.size_bytes().to_be_bytes());
        let flags = export.transmission_flags(self.framing);
        self.out.extend(flags.to_be_bytes());
        if self.wants_padding {
            self.out.extend([0; greeting::PADDING_LEN]);
        }
        self.send()?;
        Ok(self.agreement(export))
    }

    fn agreement(&self, export: Place) -> Agreement {
        let chosen = self.contexts.as_ref();
        let chosen = chosen.filter(|(offer, _)| export.is_in(offer));
        Agreement {
            contexts: chosen.map(|(_, contexts)| *contexts).unwrap_or_default(),
            export,
            framing: self.framing,
        }
    }

    /// Fills `into`. The end of the stream is in order only before the first byte of a message.
    fn receive(
        &mut self,
        into: &mut [u8],
        what: &'static str,
        is_beginning: bool,
    ) -> Result<(), Stop> {
        let mut filled = 0;
        while filled < into.len() {
            match self.transport.receive(&mut into[filled..], false) {
                Ok(0) if self.wakeup.is_stopping() => return Err(Stop::Ended(End::Stopped)),
                Ok(0) if filled == 0 && is_beginning => return Err(Stop::Ended(End::HungUp)),
                Ok(0) => return Err(SessionError::ClosedEarly(what).into()),
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Interest::READABLE)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.has_client_spoken = true;
        }
        Ok(())
    }

    fn skip(&mut self, len: u32) -> Result<(), Stop> {
        if len > OPTION_LEN_SKIPPED_MAX {
            return violation(format!("an option of {len} bytes"));
        }
        let mut scratch = [0; 4096];
        let mut left = len as usize;
        while left > 0 {
            let part = left.min(scratch.len());
            self.receive(&mut scratch[..part], "an option", false)?;
            left -= part;
        }
        Ok(())
    }

    /// Sends all replies. A stop of the server ends it: nothing in a handshake is worth waiting for.
    fn send(&mut self) -> Result<(), Stop> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.transport.send(&[IoSlice::new(&self.out[sent..])]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Interest::WRITABLE)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Waits for the client, as long as there is time and the server does not stop.
    fn wait(&mut self, interest: Interest) -> Result<(), Stop> {
        // Before the look at the stop, so that no later one is forgotten.
        self.wakeup.take_ready();
        if self.wakeup.is_stopping() {
            return Err(Stop::Ended(End::Stopped));
        }
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            return Err(SessionError::TooLate.into());
        }
        self.transport.wait(interest, self.deadline)?;
        Ok(())
    }
}
