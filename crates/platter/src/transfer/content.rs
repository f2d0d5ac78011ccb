//! What was read of a chunk, and how the two sides differ granule by granule.

use super::chunks::{Chunk, Measures};
use super::extents::Content;
use super::fault::{Attempt, Fault};
use super::view::View;
use disk_backend::DiskError;
use futures_util::future::join;
use guestmem::MemoryRead;
use scsi_buffers::{BounceBuffer, BouncePool, RequestBuffers};
use std::io;
use std::ops::Range;

/// The content of one side of a chunk, in whole granules; none is zeros.
pub(crate) type Loaded = Option<BounceBuffer>;

/// Both sides of a chunk.
pub(crate) struct Pair {
    pub(crate) first: Loaded,
    pub(crate) second: Loaded,
    /// How many bytes each disk was read.
    pub(crate) first_read_bytes: u64,
    pub(crate) second_read_bytes: u64,
}

/// Reads what has to be read of a chunk, from both disks at once. Neither read is given up when the other fails (P4).
pub(crate) async fn load(
    pool: &BouncePool,
    views: (View<'_>, Option<View<'_>>),
    chunk: &Chunk,
    measures: &Measures,
) -> Result<Pair, Fault> {
    let second = async {
        match views.1 {
            Some(view) => load_one(pool, view, chunk.second, &chunk.range, measures).await,
            None => Ok((None, 0)),
        }
    };
    let first = load_one(pool, views.0, chunk.first, &chunk.range, measures);
    let (first, second) = join(first, second).await;
    let ((first, first_read_bytes), (second, second_read_bytes)) = (first?, second?);
    Ok(Pair {
        first,
        second,
        first_read_bytes,
        second_read_bytes,
    })
}

async fn load_one(
    pool: &BouncePool,
    view: View<'_>,
    content: Content,
    range: &Range<u64>,
    measures: &Measures,
) -> Result<(Loaded, u64), Fault> {
    if content == Content::Zero {
        return Ok((None, 0));
    }
    let len = (range.end - range.start).next_multiple_of(measures.granule);
    assert!(len <= measures.chunk, "P2: there is memory for chunks");
    let buffer = pool.allocate(len as usize).await.map_err(|error| {
        let error = io::Error::new(io::ErrorKind::OutOfMemory, error);
        view.fault(Attempt::Read(range.clone()), DiskError::Io(error))
    })?;
    let read_bytes = view.read(&buffer.buffers(true), range.start).await?;
    Ok((Some(buffer), read_bytes))
}

/// How a granule of the second side has to change to be the first's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not at all.
    Same,
    /// It has to become zero.
    Zero,
    /// It has to become data.
    Data,
}

/// Bytes of one side, a granule at a time.
struct Granules<'a> {
    buffers: Option<RequestBuffers<'a>>,
    bytes: Vec<u8>,
}

impl<'a> Granules<'a> {
    fn new(loaded: &'a Loaded, granule: u64) -> Self {
        Self {
            buffers: loaded.as_ref().map(|buffer| buffer.buffers(false)),
            bytes: vec![0; granule as usize],
        }
    }

    /// The bytes at `place` of the chunk, at most a granule.
    fn get(&mut self, place: Range<u64>) -> &[u8] {
        let len = (place.end - place.start) as usize;
        let bytes = &mut self.bytes[..len];
        if let Some(buffers) = &self.buffers {
            let part = buffers.subrange(place.start as usize, len);
            part.reader()
                .read(bytes)
                .expect("a bounce buffer is memory");
        }
        bytes
    }
}

/// The places of a chunk of `len` bytes, granule by granule, counted from its beginning.
fn places(len: u64, granule: u64) -> impl Iterator<Item = Range<u64>> {
    (0..len.div_ceil(granule)).map(move |index| index * granule..((index + 1) * granule).min(len))
}

/// What has to be done to a chunk of `len` bytes, as runs that cover it.
pub(crate) fn verdicts(pair: &Pair, len: u64, granule: u64) -> Vec<(Range<u64>, Verdict)> {
    let mut first = Granules::new(&pair.first, granule);
    let mut second = Granules::new(&pair.second, granule);
    let zeros = vec![0; granule as usize];
    let mut runs: Vec<(Range<u64>, Verdict)> = Vec::new();
    for place in places(len, granule) {
        let (wanted, found) = (first.get(place.clone()), second.get(place.clone()));
        let verdict = match wanted == found {
            true => Verdict::Same,
            false if *wanted == zeros[..wanted.len()] => Verdict::Zero,
            false => Verdict::Data,
        };
        match runs.last_mut() {
            Some((run, last)) if *last == verdict => run.end = place.end,
            _ => runs.push((place, verdict)),
        }
    }
    runs
}

/// Where both sides of a chunk of `len` bytes first differ, counted from its beginning, and in how many bytes.
pub(crate) fn differences(pair: &Pair, len: u64, granule: u64) -> Option<(u64, u64)> {
    let mut first = Granules::new(&pair.first, granule);
    let mut second = Granules::new(&pair.second, granule);
    let mut found: Option<(u64, u64)> = None;
    for place in places(len, granule) {
        let (one, other) = (first.get(place.clone()), second.get(place.clone()));
        if one == other {
            continue;
        }
        let differs = one.iter().zip(other).map(|(one, other)| one != other);
        let at = differs.clone().position(|differs| differs);
        let at = place.start + at.expect("they differ") as u64;
        let count = differs.filter(|differs| *differs).count() as u64;
        let (first_at, total) = found.unwrap_or((at, 0));
        found = Some((first_at, total + count));
    }
    found
}
