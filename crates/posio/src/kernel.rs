//! The four system calls: reading and writing, one piece of memory and several.

use crate::transfer::{Direction, Kernel};
use crate::{Durability, Mode};
use guestmem::Segment;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

// That base and length come in the order of `iovec` is guestmem's promise, and tested there.
const _: () = assert!(size_of::<Segment<'_>>() == size_of::<libc::iovec>());
const _: () = assert!(align_of::<Segment<'_>>() == align_of::<libc::iovec>());

// Offsets are the kernel's full 64 bits: the whole of this crate's arithmetic relies on it.
const _: () = assert!(size_of::<libc::off_t>() == 8);

/// One request's view of the real kernel.
pub(crate) struct Linux<'a> {
    pub(crate) file: BorrowedFd<'a>,
    pub(crate) mode: Mode,
    pub(crate) durability: Durability,
}

impl Linux<'_> {
    fn flags(&self) -> libc::c_int {
        let no_wait = if self.mode == Mode::NoWait {
            libc::RWF_NOWAIT
        } else {
            0
        };
        let durable = if self.durability == Durability::Durable {
            libc::RWF_DSYNC
        } else {
            0
        };
        no_wait | durable
    }
}

impl Kernel for Linux<'_> {
    fn call(
        &mut self,
        direction: Direction,
        batch: &[Segment<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        let file = self.file.as_raw_fd();
        let vectors = batch.as_ptr().cast::<libc::iovec>();
        let count = libc::c_int::try_from(batch.len()).expect("a batch is at most IOV_MAX long");
        let offset =
            libc::off_t::try_from(offset).expect("the whole request was checked to end below 2^63");
        let flags = self.flags();
        let done = match (direction, batch) {
            // The older calls do a little less on their way.
            // SAFETY: as below; `one` is a whole segment.
            (Direction::Read, [one]) if flags == 0 => unsafe {
                libc::pread(file, one.as_ptr().cast_mut().cast(), one.len(), offset)
            },
            // SAFETY: as below; `one` is a whole segment.
            (Direction::Write, [one]) if flags == 0 => unsafe {
                libc::pwrite(file, one.as_ptr().cast(), one.len(), offset)
            },
            // SAFETY: `vectors` points to `count` segments, which have the layout of `iovec` (asserted above) and
            // are mapped as long as `batch` borrows them. `transfer` has found that the request's memory may be written, and
            // memory of a request is shared: others, the kernel among them, may change it at any time.
            (Direction::Read, _) => unsafe { libc::preadv2(file, vectors, count, offset, flags) },
            // SAFETY: as above; the kernel only reads the segments, which segments always allow.
            (Direction::Write, _) => unsafe { libc::pwritev2(file, vectors, count, offset, flags) },
        };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }
}
