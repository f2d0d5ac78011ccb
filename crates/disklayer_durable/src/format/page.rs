//! A page: the states of one stripe.

use super::table::PageBytes;
use super::{Block, PAGE_MAGIC, States, is_sealed, seal};
use planted::Bug;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A page of two bits for each sector.
const KIND_STATES: u32 = 1;

/// What the block in a page's place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageContent {
    /// Never written in this epoch, so that all sectors are absent. `is_blank` if it is all zeros.
    Never {
        is_blank: bool,
    },
    States(States),
    /// It was written, and is no page any more: why.
    Damaged(&'static str),
}

impl PageContent {
    /// What it is if the log has it: a whole entry never has an image of what was not written.
    pub(crate) fn in_log(self) -> Self {
        match self {
            Self::Never { .. } => Self::Damaged("the log has it, and it is of another epoch"),
            content => content,
        }
    }
}

pub(crate) fn encode_page(epoch: u64, stripe: u64, sequence: u64, states: &States) -> Block {
    let mut bytes = PageBytes::new_zeroed();
    bytes.magic = PAGE_MAGIC;
    bytes.kind = KIND_STATES.into();
    bytes.epoch = epoch.into();
    bytes.stripe = stripe.into();
    bytes.sequence = sequence.into();
    for (byte, state) in bytes.states.iter_mut().zip(states.bytes()) {
        *byte = state;
    }
    let mut block = [0; super::BLOCK_BYTES];
    block.copy_from_slice(bytes.as_bytes());
    seal(&mut block);
    block
}

pub(crate) fn decode_page(block: &Block, epoch: u64, stripe: u64, sectors: u32) -> PageContent {
    if block.iter().all(|byte| *byte == 0) {
        return PageContent::Never { is_blank: true };
    }
    if !is_sealed(block) && !planted::is_active(Bug::ChecksumNotChecked) {
        return PageContent::Damaged("its checksum is wrong");
    }
    let bytes = PageBytes::ref_from_bytes(block).expect("a block has this length");
    if bytes.epoch.get() != epoch {
        return PageContent::Never { is_blank: false };
    }
    if bytes.magic != PAGE_MAGIC || bytes.kind.get() != KIND_STATES {
        return PageContent::Damaged("it is no page");
    }
    if bytes.stripe.get() != stripe {
        return PageContent::Damaged("it is the page of another stripe");
    }
    match States::from_bytes(&bytes.states, sectors) {
        Some(states) => PageContent::States(states),
        None => PageContent::Damaged("a sector of it is in no state that there is"),
    }
}
