//! Bytes instead of a handshake, to a live server.
//!
//! Every option that was sent whole, in a stream that has made sense so far, is answered: with replies to that very option, each of
//! which can be taken apart, up to one that is the last. Whatever was sent, the connection ends once nothing more comes.

use crate::leaks::{Watch, bound_memory};
use crate::server::{Client, Closed, Offered};
use nbd_protocol::greeting;
use nbd_protocol::{
    ExportEntry, Info, MetaContext, OptionHeader, OptionKind, OptionReplyHeader, ReplyKind,
    check_string,
};

static WATCH: Watch = Watch::new();
/// What a server may hold for one connection, and we to look at it.
const MEMORY_BYTES_MAX: usize = 80 << 20;
/// An option that is longer than this, the server does not take in.
const OPTION_LEN_MAX: usize = 64 << 10;
const OPTION_LEN_SKIPPED_MAX: usize = 32 << 20;

/// One run.
pub fn run(bytes: &[u8]) {
    bound_memory(MEMORY_BYTES_MAX);
    {
        let offered = Offered::new("disk", 1 << 20);
        let mut client = offered.connect();
        let greeting = client.receive::<{ greeting::LEN }>();
        let flags = greeting::decode(&greeting.expect("a server greets"));
        assert_eq!(flags, Ok(greeting::FIXED_NEWSTYLE | greeting::NO_ZEROES));
        client.send_beside(bytes, |client| {
            let mut said = Said(bytes);
            // What a server cannot understand, it answers by closing.
            let Some(flags) = said.flags() else { return };
            let mut sent = 0;
            while let Some((option, data)) = said.option() {
                sent += 1;
                match check_answers(client, option, data, flags) {
                    Ok(Next::Option) => {}
                    Ok(Next::Transmission) => return,
                    Err(Closed) => {
                        assert!(
                            may_close(option, data),
                            "option {sent}, {:?}, got no answer",
                            option.kind
                        );
                        return;
                    }
                }
            }
        });
        drop(client);
    }
    WATCH.run_ended();
}

/// What the client says, as a server should understand it.
struct Said<'a>(&'a [u8]);

impl<'a> Said<'a> {
    /// The client's flags, if they are known.
    fn flags(&mut self) -> Option<u32> {
        let (flags, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        let flags = u32::from_be_bytes(*flags);
        let known = u32::from(greeting::FIXED_NEWSTYLE | greeting::NO_ZEROES);
        (flags & !known == 0).then_some(flags)
    }

    /// The next option that is there whole.
    fn option(&mut self) -> Option<(OptionHeader, &'a [u8])> {
        let (header, rest) = self.0.split_first_chunk()?;
        let header = OptionHeader::decode(header).ok()?;
        let (data, rest) = rest.split_at_checked(header.data_len as usize)?;
        self.0 = rest;
        Some((header, data))
    }
}

/// What a client may say next.
enum Next {
    Option,
    Transmission,
}

fn check_answers(
    client: &mut Client,
    option: OptionHeader,
    data: &[u8],
    flags: u32,
) -> Result<Next, Closed> {
    if option.kind == OptionKind::ExportName {
        let [size @ .., _, _] = client.receive::<10>()?;
        assert_eq!(u64::from_be_bytes(size), 1 << 20);
        if flags & u32::from(greeting::NO_ZEROES) == 0 {
            assert_eq!(client.receive::<{ greeting::PADDING_LEN }>()?, [0; 124]);
        }
        return Ok(Next::Transmission);
    }
    let mut has_size = false;
    loop {
        let header = client.receive::<{ OptionReplyHeader::LEN }>()?;
        let header = OptionReplyHeader::decode(&header).expect("a reply to an option");
        assert_eq!(header.option, option.kind);
        let payload = client.receive_vec(header.data_len as usize)?;
        check_payload(header.kind, &payload);
        has_size |= header.kind == ReplyKind::Info && payload.starts_with(&[0, 0]);
        if !header.kind.is_last() {
            continue;
        }
        let is_ack = header.kind == ReplyKind::Ack;
        if data.len() > OPTION_LEN_MAX {
            assert!(!is_ack, "an option of {} bytes succeeded", data.len());
        }
        return match option.kind {
            OptionKind::Info | OptionKind::Go => {
                assert_eq!(is_ack, has_size, "a size exactly where there is an export");
                match option.kind == OptionKind::Go && is_ack {
                    true => Ok(Next::Transmission),
                    false => Ok(Next::Option),
                }
            }
            OptionKind::Abort if is_ack => Err(Closed),
            OptionKind::Unknown(_) | OptionKind::StartTls => {
                assert_eq!(header.kind, ReplyKind::Unsupported);
                Ok(Next::Option)
            }
            _ => Ok(Next::Option),
        };
    }
}

fn check_payload(kind: ReplyKind, payload: &[u8]) {
    match kind {
        ReplyKind::Ack => assert!(payload.is_empty()),
        ReplyKind::Server => {
            let entry = ExportEntry::decode(payload).expect("an export");
            assert_eq!((entry.name, entry.description), ("disk", "for one run"));
        }
        ReplyKind::Info => match Info::decode(payload).expect("information") {
            Info::Export { size, .. } => assert_eq!(size, 1 << 20),
            Info::Name(name) => assert_eq!(name, "disk"),
            Info::Description(text) => assert_eq!(text, "for one run"),
            Info::BlockSizes(sizes) => {
                assert!(sizes.minimum <= sizes.preferred && sizes.preferred <= sizes.maximum);
            }
            Info::Unknown(kind) => panic!("information of kind {kind}"),
        },
        ReplyKind::MetaContext => {
            let context = MetaContext::decode(payload).expect("a context");
            assert!(context.name.contains(':'), "{context:?}");
        }
        _ => {
            assert!(kind.is_error(), "{kind:?}");
            let message = check_string(payload).expect("errors are explained in text");
            assert!(message.len() < 4096);
        }
    }
}

/// Whether a server may close the connection instead of answering, or after it has answered.
fn may_close(option: OptionHeader, data: &[u8]) -> bool {
    match option.kind {
        OptionKind::Abort => true,
        // There is no other way to say that an export is not there. Without a name, the only export is meant.
        OptionKind::ExportName => data != b"disk",
        _ => data.len() > OPTION_LEN_SKIPPED_MAX,
    }
}
