//! A page: the states of one stripe, and of a verified layer the checksums of its data.

use super::table::{PageBytes, SummedPageBytes};
use super::{Block, Layout, PAGE_MAGIC, State, States, Sums, is_sealed, seal};
use planted::Bug;
use zerocopy::{FromBytes, FromZeros};

/// A page of two bits for each sector.
const KIND_STATES: u32 = 1;

/// A page of two bits and a checksum for each sector.
const KIND_SUMS: u32 = 2;

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageImage {
    pub(crate) states: States,
    /// Of a verified layer: the checksums that are known.
    pub(crate) sums: Option<Sums>,
}

/// What the block in a page's place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageContent {
    /// Never written in this epoch, so that all sectors are absent. `is_blank` if it is all zeros.
    Never {
        is_blank: bool,
    },
    Image(PageImage),
    /// It was written, and is no page any more: why.
    Damaged(&'static str),
}

impl PageImage {
    /// That of a stripe of absent sectors.
    pub(crate) fn absent(layout: &Layout) -> Self {
        let sectors = layout.stripe_sectors;
        Self {
            states: States::new(sectors),
            sums: layout.is_verified().then(|| Sums::new(sectors)),
        }
    }
}

impl PageContent {
    /// What is believed of it, if checksums of this sequence number and before are not. `block` is what it was in.
    pub(crate) fn believed(mut self, block: &Block, sums_after: u64) -> Self {
        if let Self::Image(PageImage {
            sums: Some(sums), ..
        }) = &mut self
            && sequence_of(block) <= sums_after
        {
            *sums = Sums::new_like(sums);
        }
        self
    }

    /// What it is if the log has it: a whole entry never has an image of what was not written.
    pub(crate) fn in_log(self) -> Self {
        match self {
            Self::Never { .. } => Self::Damaged("the log has it, and it is of another epoch"),
            content => content,
        }
    }
}

pub(crate) fn encode_page(epoch: u64, stripe: u64, sequence: u64, image: &PageImage) -> Block {
    let mut block = match &image.sums {
        None => states_page(image, epoch, stripe, sequence),
        Some(sums) => summed_page(&image.states, sums, epoch, stripe, sequence),
    };
    seal(&mut block);
    block
}

fn states_page(image: &PageImage, epoch: u64, stripe: u64, sequence: u64) -> Block {
    let mut bytes = PageBytes::new_zeroed();
    bytes.magic = PAGE_MAGIC;
    bytes.kind = KIND_STATES.into();
    bytes.epoch = epoch.into();
    bytes.stripe = stripe.into();
    bytes.sequence = sequence.into();
    for (byte, state) in bytes.states.iter_mut().zip(image.states.bytes()) {
        *byte = state;
    }
    zerocopy::transmute!(bytes)
}

fn summed_page(states: &States, sums: &Sums, epoch: u64, stripe: u64, sequence: u64) -> Block {
    let mut bytes = SummedPageBytes::new_zeroed();
    bytes.magic = PAGE_MAGIC;
    bytes.kind = KIND_SUMS.into();
    bytes.epoch = epoch.into();
    bytes.stripe = stripe.into();
    bytes.sequence = sequence.into();
    for (byte, state) in bytes.states.iter_mut().zip(states.bytes()) {
        *byte = state;
    }
    for sector in 0..states.len() {
        match (states.get(sector), sums.get(sector)) {
            (State::Data, Some(sum)) => bytes.sums[sector as usize] = sum.into(),
            // Its lower bit says that the checksum is not known.
            (State::Data, None) => bytes.states[sector as usize / 4] |= 1 << (2 * (sector % 4)),
            (State::Absent | State::Zero, _) => {}
        }
    }
    zerocopy::transmute!(bytes)
}

/// Which entry a page was an image in.
pub(crate) fn sequence_of(block: &Block) -> u64 {
    let bytes = PageBytes::ref_from_bytes(block).expect("a block has this length");
    bytes.sequence.get()
}

/// What a block is as the page of a stripe of a layer like this; its checksums of data may be older than what is [believed](PageContent::believed).
pub(crate) fn decode_page(block: &Block, epoch: u64, stripe: u64, layout: &Layout) -> PageContent {
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
    let kind = match layout.is_verified() {
        true => KIND_SUMS,
        false => KIND_STATES,
    };
    if bytes.magic != PAGE_MAGIC || bytes.kind.get() != kind {
        return PageContent::Damaged("it is no page");
    }
    if bytes.stripe.get() != stripe {
        return PageContent::Damaged("it is the page of another stripe");
    }
    let sectors = layout.stripe_sectors;
    if layout.is_verified() {
        return PageContent::Image(summed_image(block, sectors));
    }
    match States::from_bytes(&bytes.states, sectors) {
        Some(states) => PageContent::Image(PageImage { states, sums: None }),
        None => PageContent::Damaged("a sector of it is in no state that there is"),
    }
}

fn summed_image(block: &Block, sectors: u32) -> PageImage {
    let bytes = SummedPageBytes::ref_from_bytes(block).expect("a block has this length");
    let mut image = PageImage {
        states: States::new(sectors),
        sums: None,
    };
    let mut sums = Sums::new(sectors);
    for sector in 0..sectors {
        let state = match bytes.states[sector as usize / 4] >> (2 * (sector % 4)) & 3 {
            0 => continue,
            1 => State::Zero,
            2 => {
                sums.set(sector, bytes.sums[sector as usize].get());
                State::Data
            }
            _ => State::Data,
        };
        image.states.set(sector, state);
    }
    image.sums = Some(sums);
    image
}
