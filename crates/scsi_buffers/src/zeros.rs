//! Zeros without memory of their own: one page, many times over.

use crate::source::HostList;
use guestmem::PAGE_SIZE_BYTES;
use guestmem::Segment;

/// Aligned to a page, so that zeros suit direct I/O. Never written: it is in the read-only part of the program.
#[repr(align(4096))]
struct ZeroPage([u8; PAGE_BYTES]);

const PAGE_BYTES: usize = 64 * 1024;
const PAGE_COUNT: usize = 64;
const _: () = assert!(align_of::<ZeroPage>() == PAGE_SIZE_BYTES);

/// The most zeros there are.
pub(crate) const LEN_MAX: usize = PAGE_COUNT * PAGE_BYTES;

static PAGE: ZeroPage = ZeroPage([0; PAGE_BYTES]);
static SEGMENTS: [Segment<'static>; PAGE_COUNT] = [Segment::from_slice(&PAGE.0); PAGE_COUNT];
static ENDS: [usize; PAGE_COUNT] = {
    let mut ends = [0; PAGE_COUNT];
    let mut i = 0;
    while i < PAGE_COUNT {
        ends[i] = (i + 1) * PAGE_BYTES;
        i += 1;
    }
    ends
};

/// All of the zeros.
pub(crate) static LIST: HostList<'static> = HostList {
    segments: &SEGMENTS,
    ends: &ENDS,
};
