//! Another size: waiting for it, and giving it.

use crate::disk::FileDisk;
use crate::pool;
use crate::properties::ImageKind;
use crate::shared::Shared;
use crate::transfer::Intent;
use clock::Clock;
use disk_backend::DiskError;
use futures_lite::future::or;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often a file is looked at that the kernel tells nothing about, while somebody waits for another size.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// All that a file can have.
const WHOLE_FILE: std::ops::Range<u64> = 0..u64::MAX;

impl FileDisk {
    /// Completes once the disk has another number of sectors, and returns that.
    pub(crate) async fn wait_for_other_size(&self, sector_count: u64) -> u64 {
        let shared = &self.shared;
        loop {
            let changed = shared.size.listen();
            if !shared.is_watched() {
                self.look_in_pool().await;
            }
            let now = shared.size.sector_count();
            if now != sector_count {
                return now;
            }
            if shared.is_watched() {
                changed.await;
            } else {
                let clock = shared.clock.get_or_init(Clock::real);
                or(changed, clock.sleep(LOOK_INTERVAL)).await;
            }
        }
    }

    /// A device that has gone has no size; whoever waits goes on waiting, and requests have an error of their own.
    async fn look_in_pool(&self) {
        let look = self.in_pool_unclaimed(|shared| shared.size.look().map(|_| ()));
        if let Err(error) = look.await {
            let path = self.shared.image.path.display();
            tracing::debug!(%path, %error, "cannot look at the size of the image");
        }
    }

    /// Makes the file `sector_count` sectors long, while nothing else happens to it.
    pub(crate) async fn set_sector_count(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.shared.image.properties.kind == ImageKind::BlockDevice {
            return Err(DiskError::Unsupported);
        }
        if sector_count == 0 {
            return Err(DiskError::InvalidInput);
        }
        let size_bytes = sector_count.checked_mul(self.shared.image.sector_size.into());
        let size_bytes = size_bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
        let size_bytes = size_bytes.ok_or(DiskError::NoSpace)?;
        self.shared.check_writable()?;
        let shared = Arc::clone(&self.shared);
        let counted = shared.in_pool.begin_owned();
        let work = pool::spawn_staged(|stage| async move {
            let guard = shared.claim(&stage, WHOLE_FILE, Intent::Change).await;
            let result = shared.set_size_bytes(size_bytes);
            drop((guard, counted));
            result
        });
        work.await
    }
}

impl Shared {
    fn set_size_bytes(&self, size_bytes: u64) -> Result<(), DiskError> {
        let failed = |error: io::Error| self.named(error);
        let before = self.size.look().map_err(failed)?;
        let end = self.size.end_of_sectors();
        let _given = self.size.giving([end, size_bytes]);
        // Bytes that were behind the last sector must not turn up inside a new one (C10).
        let result = match end < before && end < size_bytes {
            true => self.cut_or_extend(end),
            false => Ok(()),
        };
        let result = result.and_then(|()| self.cut_or_extend(size_bytes));
        self.flusher.note_change();
        let seen = self.size.look();
        result.and(seen).map_err(failed)?;
        Ok(())
    }

    fn cut_or_extend(&self, size_bytes: u64) -> io::Result<()> {
        loop {
            match rustix::fs::ftruncate(self.image.file(), size_bytes) {
                Err(Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }
}
