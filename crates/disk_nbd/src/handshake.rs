//! The handshake: from a stream that has just been opened to an export that takes requests.
//!
//! Fixed newstyle only. Replies in chunks and `base:allocation` are asked for and done without where a server has none.

use crate::error::{ConnectReason, presentable};
use nbd_protocol::{
    BASE_ALLOCATION, BlockSizes, ContextRequest, Framing, Info, InfoKind, InfoRequest, Malformed,
    MetaContext, OptionHeader, OptionKind, OptionReplyHeader, ReplyKind, greeting,
};
use std::io::{self, Read, Write};

/// The greeting of servers from before the handshake had options.
const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;

/// The longest data of a reply that is received, in bytes: more than any message or name may have.
const REPLY_LEN_MAX: u32 = 64 * 1024;

/// How many replies may answer one option.
const REPLIES_MAX: usize = 256;

/// What the handshake settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) size_bytes: u64,
    /// Of [`nbd_protocol::transmission_flag`].
    pub(crate) flags: u16,
    /// None if the server did not say.
    pub(crate) block_sizes: Option<BlockSizes>,
    pub(crate) framing: Framing,
    /// The number of the context `base:allocation`, if the server has it.
    pub(crate) allocation_context: Option<u32>,
}

/// Agrees with the server at the other end of `stream` on the export `export_name`.
pub(crate) fn negotiate(
    stream: impl Read + Write,
    export_name: &str,
) -> Result<Terms, ConnectReason> {
    let mut talk = Talk { stream };
    talk.greet()?;
    let framing = talk.ask_for_framing()?;
    let allocation_context = match framing.has_chunks() {
        true => talk.ask_for_allocation(export_name)?,
        false => None,
    };
    let (size_bytes, flags, block_sizes) = talk.go(export_name)?;
    Ok(Terms {
        size_bytes,
        flags,
        block_sizes,
        framing,
        allocation_context,
    })
}

/// How an option ended.
enum Outcome {
    Done,
    Refused { kind: ReplyKind, words: String },
}

/// What looks at each reply but the last.
type Each<'a> = dyn FnMut(ReplyKind, &[u8]) -> Result<(), ConnectReason> + 'a;

struct Talk<S> {
    stream: S,
}

impl<S: Read + Write> Talk<S> {
    fn greet(&mut self) -> Result<(), ConnectReason> {
        let mut greeting = [0; greeting::LEN];
        self.receive(&mut greeting[..8])?;
        let magic = u64::from_be_bytes(*greeting.first_chunk().expect("it is longer"));
        if magic != greeting::MAGIC {
            return Err(ConnectReason::NotSpoken(
                "what listens there is no NBD server",
            ));
        }
        self.receive(&mut greeting[8..16])?;
        if greeting[8..16] == OLDSTYLE_MAGIC.to_be_bytes() {
            return Err(ConnectReason::NotSpoken(TOO_OLD));
        }
        self.receive(&mut greeting[16..])?;
        let flags = greeting::decode(&greeting).map_err(violation)?;
        if flags & greeting::FIXED_NEWSTYLE == 0 {
            return Err(ConnectReason::NotSpoken(TOO_OLD));
        }
        let wanted = greeting::FIXED_NEWSTYLE | flags & greeting::NO_ZEROES;
        self.send(&u32::from(wanted).to_be_bytes())
    }

    /// The best kind of headers that the server has.
    fn ask_for_framing(&mut self) -> Result<Framing, ConnectReason> {
        for (option, framing) in [
            (OptionKind::ExtendedHeaders, Framing::Extended),
            (OptionKind::StructuredReply, Framing::Structured),
        ] {
            if let Outcome::Done = self.ask(option, &[], &mut |_, _| Ok(()))? {
                return Ok(framing);
            }
        }
        Ok(Framing::Simple)
    }

    fn ask_for_allocation(&mut self, export_name: &str) -> Result<Option<u32>, ConnectReason> {
        let data = ContextRequest::encode(export_name, &[BASE_ALLOCATION]);
        let mut found = None;
        let outcome = self.ask(OptionKind::SetMetaContext, &data, &mut |kind, data| {
            if kind == ReplyKind::MetaContext {
                let context = MetaContext::decode(data).map_err(violation)?;
                if context.name == BASE_ALLOCATION {
                    found = Some(context.id);
                }
            }
            Ok(())
        })?;
        Ok(match outcome {
            Outcome::Done => found,
            // What is wrong with the export is explained to the option that needs it.
            Outcome::Refused { .. } => None,
        })
    }

    fn go(&mut self, export_name: &str) -> Result<(u64, u16, Option<BlockSizes>), ConnectReason> {
        let wanted = [InfoKind::BlockSizes].into_iter().collect();
        let data = InfoRequest {
            export_name,
            wanted,
        };
        let mut export = None;
        let mut block_sizes = None;
        let outcome = self.ask(OptionKind::Go, &data.encode(), &mut |kind, data| {
            if kind == ReplyKind::Info {
                match Info::decode(data).map_err(violation)? {
                    Info::Export { size, flags } => export = Some((size, flags)),
                    Info::BlockSizes(sizes) => block_sizes = Some(sizes),
                    _ => {}
                }
            }
            Ok(())
        })?;
        if let Outcome::Refused { kind, words } = outcome {
            return Err(refusal(kind, words));
        }
        let (size_bytes, flags) = export.ok_or_else(|| {
            ConnectReason::Violation("it agreed without telling the size of the export".to_owned())
        })?;
        Ok((size_bytes, flags, block_sizes))
    }

    /// Sends an option, and shows `each` reply to it but the last.
    fn ask(
        &mut self,
        option: OptionKind,
        data: &[u8],
        each: &mut Each<'_>,
    ) -> Result<Outcome, ConnectReason> {
        let header = OptionHeader {
            kind: option,
            data_len: u32::try_from(data.len()).expect("names are bounded"),
        };
        self.send(&[&header.encode()[..], data].concat())?;
        for _ in 0..REPLIES_MAX {
            let (kind, data) = self.receive_reply(option)?;
            if kind.is_error() {
                let words = presentable(&data);
                return Ok(Outcome::Refused { kind, words });
            }
            if kind.is_last() {
                return Ok(Outcome::Done);
            }
            each(kind, &data)?;
        }
        Err(ConnectReason::Violation(format!(
            "it answers one option with more than {REPLIES_MAX} replies"
        )))
    }

    fn receive_reply(&mut self, option: OptionKind) -> Result<(ReplyKind, Vec<u8>), ConnectReason> {
        let mut header = [0; OptionReplyHeader::LEN];
        self.receive(&mut header)?;
        let header = OptionReplyHeader::decode(&header).map_err(violation)?;
        if header.option != option {
            return Err(ConnectReason::Violation(format!(
                "it answers {:?} where {option:?} was asked",
                header.option
            )));
        }
        if header.data_len > REPLY_LEN_MAX {
            return Err(ConnectReason::Violation(format!(
                "a reply of {} bytes: there is none above {REPLY_LEN_MAX}",
                header.data_len
            )));
        }
        let mut data = vec![0; header.data_len as usize];
        self.receive(&mut data)?;
        Ok((header.kind, data))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectReason> {
        self.stream.write_all(bytes).map_err(broken)
    }

    fn receive(&mut self, into: &mut [u8]) -> Result<(), ConnectReason> {
        self.stream.read_exact(into).map_err(broken)
    }
}

const TOO_OLD: &str = "the server only speaks the protocol of before 2011 (without the fixed newstyle handshake), which this client does not: a newer server is needed";

fn refusal(kind: ReplyKind, words: String) -> ConnectReason {
    match kind {
        ReplyKind::TlsRequired => ConnectReason::TlsRequired,
        ReplyKind::UnknownExport => ConnectReason::UnknownExport(words),
        ReplyKind::Unsupported => ConnectReason::NotSpoken(
            "the server does not know the option GO, of 2016, by which this client chooses an export: a newer server is needed",
        ),
        ReplyKind::Shutdown => ConnectReason::Refused("it is about to stop".to_owned()),
        _ if words.is_empty() => {
            ConnectReason::Refused(format!("error {:#x}, without a word", kind.code()))
        }
        _ => ConnectReason::Refused(words),
    }
}

fn violation(malformed: Malformed) -> ConnectReason {
    ConnectReason::Violation(malformed.to_string())
}

fn broken(error: io::Error) -> ConnectReason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => ConnectReason::Closed,
        _ => ConnectReason::Broken(error),
    }
}
