//! What options are answered with. Nothing here waits for the client, but for a long list.

use super::{Handshake, REPLY_BYTES_MAX, Stop};
use crate::exports::{NoPlace, Offer, Place};
use crate::protocol::contexts::{Context, ContextSet};
use nbd_protocol::{
    ContextRequest, ExportEntry, Framing, Info, InfoKind, InfoRequest, Malformed, MetaContext,
    OptionHeader, OptionKind, ReplyKind, STRING_LEN_MAX, push_reply,
};
use std::sync::Arc;

const EXPORT_IS_FULL: &[u8] = b"as many connections as may use the export already";
pub(super) const NO_DATA_WANTED: Malformed = Malformed("the option takes no data");

impl Handshake<'_> {
    pub(super) fn list(
        &mut self,
        option: OptionHeader,
        data: &[u8],
    ) -> Result<Result<(), Malformed>, Stop> {
        if !data.is_empty() {
            return Ok(Err(NO_DATA_WANTED));
        }
        let mut last: Option<String> = None;
        while let Some(export) = self.hall.after(last.as_deref()) {
            let name = export.name();
            let description = export.description();
            let entry = ExportEntry { name, description };
            self.reply(option, ReplyKind::Server, &entry.encode());
            last = Some(name.to_owned());
            drop(export);
            if self.out.len() > REPLY_BYTES_MAX {
                self.send()?;
            }
        }
        self.reply(option, ReplyKind::Ack, b"");
        Ok(Ok(()))
    }

    /// `INFO` and `GO`. With `GO`, returns the place in the export, if there is one of that name.
    pub(super) fn info(
        &mut self,
        option: OptionHeader,
        data: &[u8],
    ) -> Result<Option<Place>, Malformed> {
        let request = InfoRequest::decode(data)?;
        let Some(export) = self.find_for(option, request.export_name) else {
            return Ok(None);
        };
        let place = match option.kind {
            OptionKind::Go => match self.hall.enter(&export) {
                Ok(place) => Some(place),
                Err(NoPlace::Removed) => {
                    self.reply_unknown(option, request.export_name);
                    return Ok(None);
                }
                Err(NoPlace::Full) => {
                    self.reply(option, ReplyKind::Policy, EXPORT_IS_FULL);
                    return Ok(None);
                }
            },
            _ => None,
        };
        let size = export.size_bytes();
        let flags = export.transmission_flags(self.framing);
        self.reply_info(option, Info::Export { size, flags });
        // Sent unasked, too: it costs nothing, and a client may find it useful.
        self.reply_info(option, Info::BlockSizes(export.block_sizes()));
        if request.wanted.contains(&InfoKind::Name) {
            self.reply_info(option, Info::Name(export.name()));
        }
        let description = export.description();
        if request.wanted.contains(&InfoKind::Description) && !description.is_empty() {
            self.reply_info(option, Info::Description(description));
        }
        self.reply(option, ReplyKind::Ack, b"");
        Ok(place)
    }

    /// `STRUCTURED_REPLY` and `EXTENDED_HEADERS`, in either order: the better one stays.
    pub(super) fn reframe(
        &mut self,
        option: OptionHeader,
        data: &[u8],
        framing: Framing,
    ) -> Result<(), Malformed> {
        if !data.is_empty() {
            return Err(NO_DATA_WANTED);
        }
        if framing < self.framing {
            let message = b"extended headers were agreed on, which go further";
            self.reply(option, ReplyKind::ExtendedHeadersRequired, message);
            return Ok(());
        }
        self.framing = framing;
        self.reply(option, ReplyKind::Ack, b"");
        Ok(())
    }

    /// `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
    pub(super) fn contexts(&mut self, option: OptionHeader, data: &[u8]) -> Result<(), Malformed> {
        let is_list = option.kind == OptionKind::ListMetaContext;
        if !is_list {
            // Whatever was selected before is gone, also if this fails.
            self.contexts = None;
        }
        if !self.framing.has_chunks() {
            return Err(Malformed(
                "metadata contexts need structured replies, which were not negotiated",
            ));
        }
        let ContextRequest {
            export_name,
            queries,
        } = ContextRequest::decode(data)?;
        let Some(export) = self.find_for(option, export_name) else {
            return Ok(());
        };
        let mut chosen = ContextSet::default();
        let lists_all = is_list && queries.into_iter().next().is_none();
        for context in Context::ALL {
            let is_meant = |query: &str| match is_list {
                true => context.is_listed_by(query),
                false => query == context.name(),
            };
            if lists_all || queries.into_iter().any(is_meant) {
                chosen.insert(context);
            }
        }
        for context in chosen.iter() {
            let context = MetaContext {
                id: if is_list { 0 } else { context.id() },
                name: context.name(),
            };
            self.reply(option, ReplyKind::MetaContext, &context.encode());
        }
        if !is_list {
            self.contexts = Some((Arc::downgrade(&export), chosen));
        }
        self.reply(option, ReplyKind::Ack, b"");
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
        self.reply(option, ReplyKind::UnknownExport, &message.as_bytes()[..len]);
    }

    pub(super) fn reply(&mut self, option: OptionHeader, kind: ReplyKind, data: &[u8]) {
        push_reply(&mut self.out, option.kind, kind, &[data]);
    }

    fn reply_info(&mut self, option: OptionHeader, info: Info<'_>) {
        self.reply(option, ReplyKind::Info, &info.encode());
    }
}
