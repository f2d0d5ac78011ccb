//! Lower layers whose size changes behind the stack's back (L5).

use super::ComposedLayer;
use super::stand::{PLAIN, SECTOR_BYTES, SECTORS, Stand};
use crate::Clause;
use crate::subject::Checked;
use disk_backend::{Disk, DiskIo};
use disk_layered::LayerIo;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

/// How far the lower layer reaches once it has shrunk.
const SHRUNK: u64 = 3;

/// L5: what a lower layer has lost reads zero, also when it is long again, until it is written through the stack.
pub(super) fn what_shrank_stays_zero<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    // Whether the stack has been read while the layer was short.
    for is_seen_short in [true, false] {
        let case = "a lower layer that shrinks, and grows again";
        let stack = stand.build(case, &[PLAIN, PLAIN], &[]);
        let lower = stack.layers[1].layer.inner();
        let before = stand.content(&stack.disk)?;
        stand.step(format!("the lower layer shrinks to {SHRUNK} sectors"));
        block_on(lower.resize(SHRUNK)).expect("it can be resized");
        let cut = (SHRUNK * u64::from(SECTOR_BYTES)) as usize;
        let expected = [&before[..cut], &vec![0; before.len() - cut]].concat();
        if is_seen_short {
            let what = "it was cut off, and has to be";
            stand.equal(Clause::L5, what, &stand.content(&stack.disk)?, &expected)?;
            stand.step("the lower layer grows again, and somebody fills it");
            block_on(lower.resize(SECTORS)).expect("it can be resized");
            let bytes = vec![7; before.len() - cut];
            let host = HostBuffers::from_ref(&bytes);
            let write = block_on(lower.write(&host.buffers(), SHRUNK, false));
            write.expect("a reference layer takes everything");
        }
        let what = "it was cut off once, and has to be";
        stand.equal(Clause::L5, what, &stand.content(&stack.disk)?, &expected)?;

        stand.step("a write to the last sector");
        let bytes = [9; SECTOR_BYTES as usize];
        let host = HostBuffers::from_ref(&bytes);
        let buffers = host.buffers();
        let write = stack.disk.write_vectored(&buffers, SECTORS - 1, false);
        let written = stand.alone("a write", write)?;
        written.map_err(|error| {
            let what = format!("a write beyond the end of a lower layer failed: {error:?}");
            stand.violation(Clause::L5, what)
        })?;
        let last = expected.len() - bytes.len();
        let expected = [&expected[..last], &bytes].concat();
        let what = "it was written to";
        stand.equal(Clause::L5, what, &stand.content(&stack.disk)?, &expected)?;
    }
    Ok(())
}
