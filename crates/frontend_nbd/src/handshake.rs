//! The handshake: the client looks around, agrees on extensions, and chooses an export.
//!
//! Nothing else happens on the connection meanwhile, so this simply waits for one message after the other. It holds one option
//! and the reply to it at a time, both bounded.

use crate::connection::Hall;
use crate::exports::{Offer, Place};
use crate::protocol::greeting::{self, FIXED_NEWSTYLE, NO_ZEROES};
use crate::protocol::options::{
    ContextRequest, HEADER_LEN, InfoRequest, Malformed, OptionHeader, OptionKind, ReplyKind, info,
    parse_string, push_reply,
};
use crate::protocol::replies::ReplyStyle;
use crate::protocol::{ALLOCATION_CONTEXT, STRING_LEN_MAX};
use crate::session::{End, SessionError};
use crate::transport::{Interest, Transport};
use crate::wakeup::Wakeup;
use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};

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
    pub(crate) style: ReplyStyle,
    /// Block status may be asked for.
    pub(crate) has_allocation_context: bool,
}

/// How a handshake ends in order.
#[derive(Debug)]
pub(crate) enum Outcome {
    Agreed(Agreement),
    Ended(End),
}

/// Greets the client and answers its options until it has chosen an export, or leaves.
pub(crate) fn negotiate<T: Transport>(
    transport: &mut T,
    wakeup: &Wakeup,
    hall: &Hall<'_>,
) -> Result<Outcome, SessionError> {
    let mut handshake = Handshake {
        transport,
        wakeup,
        hall,
        out: Vec::new(),
        wants_padding: true,
        is_structured: false,
        context_export: None,
    };
    let result = match handshake.greet() {
        Ok(()) => handshake.answer_options(),
        Err(error) => Err(error),
    };
    match result {
        Err(Stop::Ended(end)) => Ok(Outcome::Ended(end)),
        Err(Stop::Failed(error)) => Err(error),
        Ok(agreement) => Ok(Outcome::Agreed(agreement)),
    }
}

struct Handshake<'a, T> {
    transport: &'a mut T,
    wakeup: &'a Wakeup,
    hall: &'a Hall<'a>,
    /// Replies that are not sent yet.
    out: Vec<u8>,
    wants_padding: bool,
    is_structured: bool,
    /// The export for which the client selected `base:allocation`; not kept from being removed.
    context_export: Option<Weak<Offer>>,
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

impl<T: Transport> Handshake<'_, T> {
    fn greet(&mut self) -> Result<(), Stop> {
        self.out.extend(greeting::MAGIC.to_be_bytes());
        self.out.extend(greeting::OPTION_MAGIC.to_be_bytes());
        self.out.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
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
            let mut header = [0; HEADER_LEN];
            self.receive(&mut header, "an option", true)?;
            let option = OptionHeader::parse(&header).or_else(|magic| {
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
        let kind = option.kind();
        if option.data_len > OPTION_LEN_MAX {
            if kind == OptionKind::ExportName {
                return violation(format!("an export name of {} bytes", option.data_len));
            }
            self.skip(option.data_len)?;
            let kind = match kind {
                OptionKind::Unknown => ReplyKind::Unsupported,
                _ => ReplyKind::TooBig,
            };
            self.reply(option, kind, &[b"the option is longer than 64 KiB"]);
            return Ok(None);
        }
        let mut data = vec![0; option.data_len as usize];
        self.receive(&mut data, "an option", false)?;
        let data = &data[..];
        let answered = match kind {
            OptionKind::ExportName => return self.enter_by_name(data).map(Some),
            OptionKind::Abort => {
                self.reply(option, ReplyKind::Ack, &[]);
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
            OptionKind::StructuredReply => self.structured_reply(option, data),
            OptionKind::ListMetaContext | OptionKind::SetMetaContext => self.contexts(option, data),
            OptionKind::Unknown => {
                self.reply(option, ReplyKind::Unsupported, &[]);
                Ok(())
            }
        };
        if let Err(malformed) = answered {
            self.reply(option, ReplyKind::Invalid, &[malformed.as_bytes()]);
        }
        Ok(None)
    }

    /// `EXPORT_NAME`, which can only be refused by closing the connection.
    fn enter_by_name(&mut self, data: &[u8]) -> Result<Agreement, Stop> {
        let name = match parse_string(data) {
            Ok(name) => name,
            Err(malformed) => return violation(malformed),
        };
        let found = self.hall.find(name);
        let Some(export) = found.and_then(|export| self.hall.enter(&export)) else {
            return Err(SessionError::UnknownExport(name.to_owned()).into());
        };
        self.out.extend(export.size_bytes().to_be_bytes());
        let flags = export.transmission_flags(self.is_structured);
        self.out.extend(flags.to_be_bytes());
        if self.wants_padding {
            self.out.extend([0; greeting::PADDING_LEN]);
        }
        self.send()?;
        Ok(self.agreement(export))
    }

    fn agreement(&self, export: Place) -> Agreement {
        let selected = self.context_export.as_ref();
        Agreement {
            has_allocation_context: selected.is_some_and(|other| export.is_in(other)),
            export,
            style: match self.is_structured {
                true => ReplyStyle::Structured,
                false => ReplyStyle::Simple,
            },
        }
    }

    fn list(&mut self, option: OptionHeader, data: &[u8]) -> Result<Result<(), Malformed>, Stop> {
        if !data.is_empty() {
            return Ok(Err(NO_DATA_WANTED));
        }
        let mut last: Option<String> = None;
        while let Some(export) = self.hall.after(last.as_deref()) {
            let name = export.name();
            let name_len = (name.len() as u32).to_be_bytes();
            let description = export.description().as_bytes();
            let parts = [&name_len[..], name.as_bytes(), description];
            self.reply(option, ReplyKind::Server, &parts);
            last = Some(name.to_owned());
            drop(export);
            if self.out.len() > REPLY_BYTES_MAX {
                self.send()?;
            }
        }
        self.reply(option, ReplyKind::Ack, &[]);
        Ok(Ok(()))
    }

    /// `INFO` and `GO`. With `GO`, returns the place in the export, if there is one of that name.
    fn info(&mut self, option: OptionHeader, data: &[u8]) -> Result<Option<Place>, Malformed> {
        let request = InfoRequest::parse(data)?;
        let Some(export) = self.find_for(option, request.export_name) else {
            return Ok(None);
        };
        let place = match option.kind() {
            OptionKind::Go => match self.hall.enter(&export) {
                None => {
                    self.reply_unknown(option, request.export_name);
                    return Ok(None);
                }
                place => place,
            },
            _ => None,
        };
        let size = export.size_bytes().to_be_bytes();
        let flags = export.transmission_flags(self.is_structured).to_be_bytes();
        self.reply_info(option, info::EXPORT, &[&size, &flags]);
        // Sent unasked, too: it costs nothing, and a client may find it useful.
        let [minimum, preferred, maximum] = export.block_sizes().map(u32::to_be_bytes);
        self.reply_info(option, info::BLOCK_SIZE, &[&minimum, &preferred, &maximum]);
        if request.wanted.contains(&info::NAME) {
            self.reply_info(option, info::NAME, &[export.name().as_bytes()]);
        }
        if request.wanted.contains(&info::DESCRIPTION) && !export.description().is_empty() {
            let description = export.description().as_bytes();
            self.reply_info(option, info::DESCRIPTION, &[description]);
        }
        self.reply(option, ReplyKind::Ack, &[]);
        Ok(place)
    }

    fn structured_reply(&mut self, option: OptionHeader, data: &[u8]) -> Result<(), Malformed> {
        if !data.is_empty() {
            return Err(NO_DATA_WANTED);
        }
        self.is_structured = true;
        self.reply(option, ReplyKind::Ack, &[]);
        Ok(())
    }

    /// `LIST_META_CONTEXT` and `SET_META_CONTEXT`, for the one context there is.
    fn contexts(&mut self, option: OptionHeader, data: &[u8]) -> Result<(), Malformed> {
        let is_list = option.kind() == OptionKind::ListMetaContext;
        if !is_list {
            // Whatever was selected before is gone, also if this fails.
            self.context_export = None;
        }
        if !self.is_structured {
            return Err("metadata contexts need structured replies, which were not negotiated");
        }
        let request = ContextRequest::parse(data)?;
        let Some(export) = self.find_for(option, request.export_name) else {
            return Ok(());
        };
        let is_meant = match is_list {
            true => request.is_empty || request.names_allocation || request.names_namespace,
            false => request.names_allocation,
        };
        if is_meant {
            let id = if is_list { 0 } else { ALLOCATION_CONTEXT_ID };
            let parts = [&id.to_be_bytes()[..], ALLOCATION_CONTEXT.as_bytes()];
            self.reply(option, ReplyKind::MetaContext, &parts);
            if !is_list {
                self.context_export = Some(Arc::downgrade(&export));
            }
        }
        self.reply(option, ReplyKind::Ack, &[]);
        Ok(())
    }

    /// The export of that name; if there is none, the client is told.
    fn find_for(&mut self, option: OptionHeader, name: &str) -> Option<Arc<Offer>> {
        let export = self.hall.find(name);
        if export.is_none() {
            self.reply_unknown(option, name);
        }
        export
    }

    fn reply_unknown(&mut self, option: OptionHeader, name: &str) {
        let message = format!("there is no export named {name:?}");
        let len = message.floor_char_boundary(STRING_LEN_MAX);
        let text = &message.as_bytes()[..len];
        self.reply(option, ReplyKind::UnknownExport, &[text]);
    }

    fn reply(&mut self, option: OptionHeader, kind: ReplyKind, data: &[&[u8]]) {
        push_reply(&mut self.out, option.code, kind, data);
    }

    fn reply_info(&mut self, option: OptionHeader, kind: u16, data: &[&[u8]]) {
        let data = data.concat();
        self.reply(option, ReplyKind::Info, &[&kind.to_be_bytes(), &data]);
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
            match self.transport.receive(&mut into[filled..], true)? {
                0 if self.wakeup.is_stopping() => return Err(Stop::Ended(End::Stopped)),
                0 if filled == 0 && is_beginning => return Err(Stop::Ended(End::HungUp)),
                0 => return Err(SessionError::ClosedEarly(what).into()),
                len => filled += len,
            }
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
            // Before the look at the stop, so that no later one is forgotten.
            self.wakeup.take_ready();
            if self.wakeup.is_stopping() {
                return Err(Stop::Ended(End::Stopped));
            }
            match self.transport.send(&[IoSlice::new(&self.out[sent..])]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let interest = Interest {
                        readable: false,
                        writable: true,
                    };
                    self.transport.wait(interest, None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        Ok(())
    }
}

const NO_DATA_WANTED: Malformed = "the option takes no data";

/// The number by which block status names `base:allocation`.
pub(crate) const ALLOCATION_CONTEXT_ID: u32 = 1;
