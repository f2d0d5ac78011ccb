//! A mistake that tests of tests plant ([`Bug::TornSector`](planted::Bug)): half of a sector, and then others run.

use super::{Piece, Store};
use crate::chunk::SectorState;
use disk_backend::DiskError;
use guestmem::MemoryRead;
use scsi_buffers::{HostBuffers, RequestBuffers};

impl Store {
    /// Stores the first half of a piece's first sector, which is at `offset` in `buffers`, and lets others run.
    pub(super) async fn store_half_a_sector(
        &self,
        buffers: &RequestBuffers<'_>,
        offset: usize,
        piece: &Piece,
    ) -> Result<(), DiskError> {
        let first = piece.sectors.start..piece.sectors.start + 1;
        let mut sector = vec![0; 1 << self.sector_shift];
        let half = sector.len() / 2;
        {
            let place = self.place_to_change(piece.chunk);
            let mut slot = place.write();
            self.check_end(piece.range.end)?;
            if slot.run(first.start, first.end).0 == SectorState::Data {
                let host = HostBuffers::from_mut(&mut sector);
                slot.read(first.clone(), &mut host.buffers().writer())?;
            }
            let new = buffers.subrange(offset, half);
            new.reader().read(&mut sector[..half])?;
            let host = HostBuffers::from_ref(&sector);
            self.store_sectors(place, &mut slot, first, &mut host.buffers().reader())?;
        }
        futures_lite::future::yield_now().await;
        Ok(())
    }
}
