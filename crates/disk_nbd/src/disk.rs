//! The disk itself: connecting, and the methods of the trait.

use crate::connection::{Answer, Connection};
use crate::error::{ConnectError, ConnectReason};
use crate::properties::Properties;
use crate::{NbdUri, connect, status};
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, DiskIo, Persistence,
    UnmapBehavior, zeroes,
};
use inspect::Inspect;
use nbd_protocol::{Command, command_flag};
use scsi_buffers::{BouncePool, RequestBuffers};
use std::fmt;
use std::future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NbdOptions {
    /// Whether the disk takes no writes. It takes none either if the server's export does not.
    pub read_only: bool,
    /// How long connecting and the handshake may take together. Finding the address of a host by its name takes as long as the
    /// system's resolver does.
    pub connect_time_max: Duration,
}

impl Default for NbdOptions {
    /// Writable where the server allows it; 30 seconds.
    fn default() -> Self {
        Self {
            read_only: false,
            connect_time_max: Duration::from_secs(30),
        }
    }
}

impl NbdOptions {
    /// The default, for a disk that takes no writes if `read_only`.
    pub fn new(read_only: bool) -> Self {
        Self {
            read_only,
            ..Self::default()
        }
    }
}

/// An export of an NBD server; see the [crate documentation](crate).
///
/// Dropping it says goodbye to the server once nothing is in flight, or after ten seconds; it does not flush.
pub struct NbdDisk {
    pub(crate) connection: Connection,
    pub(crate) properties: Properties,
    is_read_only: bool,
    /// After a failed flush nobody knows what the server has lost (C8).
    flush_has_failed: AtomicBool,
    /// Memory for requests whose own cannot be pinned, to be used again.
    pub(crate) bounce: BouncePool,
}

/// How much memory for such requests is kept, in bytes: as much as may be in flight.
const BOUNCE_BYTES_MAX: usize = crate::connection::BYTES_MAX;

impl NbdDisk {
    /// Connects to the export that `uri` names, on a thread of the `blocking` pool.
    ///
    /// If the future is dropped, the attempt goes on until it succeeds or its time is up, and is then closed.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing stays open then.
    pub async fn connect(uri: &NbdUri, options: &NbdOptions) -> Result<Self, ConnectError> {
        let uri = uri.clone();
        let options = options.clone();
        blocking::unblock(move || {
            Self::connect_now(&uri, &options).map_err(|reason| ConnectError::new(&uri, reason))
        })
        .await
    }

    fn connect_now(uri: &NbdUri, options: &NbdOptions) -> Result<Self, ConnectReason> {
        let (socket, terms) = connect::connect(uri, options.connect_time_max)?;
        let properties = Properties::new(&terms)?;
        let connection =
            Connection::start(uri.clone(), socket, &terms).map_err(ConnectReason::NoResources)?;
        Ok(Self {
            connection,
            is_read_only: options.read_only || properties.is_read_only_there,
            properties,
            flush_has_failed: AtomicBool::new(false),
            bounce: BouncePool::new(BOUNCE_BYTES_MAX),
        })
    }

    /// The export that it is connected to.
    pub fn uri(&self) -> &NbdUri {
        self.connection.uri()
    }

    fn offset(&self, sector: u64) -> u64 {
        sector * u64::from(self.properties.sector_size)
    }

    /// Refuses changes after a failed flush (C8).
    fn check_writable(&self) -> Result<(), DiskError> {
        match self.flush_has_failed.load(Ordering::Acquire) {
            true => Err(DiskError::Io(io::Error::other(format!(
                "{}: an earlier flush failed, so what was written before it may be lost: the disk has to be opened anew",
                self.uri()
            )))),
            false => Ok(()),
        }
    }

    /// Takes note of what a request that makes things durable came to. Room and permission are asked for before anything is
    /// written; after any other failure it is open what the server has lost.
    fn durable<T>(&self, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(DiskError::Io(_)) = &result {
            self.flush_has_failed.store(true, Ordering::Release);
        }
        result
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for NbdDisk {
    fn disk_type(&self) -> &str {
        "nbd"
    }

    fn sector_count(&self) -> u64 {
        self.properties.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.properties.sector_size
    }

    /// None: a server says nothing that stays with the content.
    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    /// None: a server says nothing that changes with the content, and others may write what it serves.
    fn content_stamp(&self) -> Option<ContentStamp> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.properties.physical_sector_size
    }

    fn is_fua_respected(&self) -> bool {
        self.properties.can_fua
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Without a flush a server promises nothing that outlives it.
    fn persistence(&self) -> Persistence {
        if self.properties.can_flush || self.is_read_only {
            Persistence::Persistent
        } else {
            Persistence::Volatile
        }
    }

    /// One. The protocol does not say; a sector is 512 bytes or the least that the server writes, which stores do not tear.
    fn atomic_write_sectors(&self) -> u32 {
        1
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        _block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.check_writable()?;
        if !self.properties.can_trim {
            return Ok(());
        }
        self.connection.counters().trims.add(1);
        let range = self.offset(sector)..self.offset(sector + count);
        let piece_bytes = self.properties.range_bytes;
        self.each_piece(Command::Trim, 0, range, piece_bytes).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        if self.properties.can_trim {
            UnmapBehavior::Unspecified
        } else {
            UnmapBehavior::Ignored
        }
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.properties.physical_sector_size / self.properties.sector_size
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    async fn eject(&self) -> Result<(), DiskError> {
        Err(DiskError::UnsupportedEject)
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// The server does it.
    fn try_read(&self, _: &RequestBuffers<'_>, _: u64) -> bool {
        false
    }

    fn try_write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> bool {
        false
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.read(buffers, self.offset(sector)).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.check_writable()?;
        if fua && self.properties.can_fua {
            let flags = command_flag::FUA;
            let written = self.write(buffers, self.offset(sector), flags).await;
            return self.durable(written);
        }
        self.write(buffers, self.offset(sector), 0).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.check_writable()?;
        let fua = fua && self.properties.can_fua;
        if !self.properties.can_zero {
            for piece in zeroes::pieces(self.sector_size(), sector, count, no_fallback)? {
                self.write_vectored(&piece.zeros, piece.sector, fua).await?;
            }
            return Ok(());
        }
        if no_fallback && !self.properties.can_zero_fast {
            return Err(DiskError::Unsupported);
        }
        self.connection.counters().zeroings.add(1);
        let mut flags = 0;
        for (is_set, flag) in [
            (fua, command_flag::FUA),
            (!may_unmap, command_flag::NO_HOLE),
            (no_fallback, command_flag::FAST_ZERO),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let range = self.offset(sector)..self.offset(sector + count);
        let piece_bytes = self.properties.zero_bytes;
        let zeroed = self
            .each_piece(Command::WriteZeroes, flags, range, piece_bytes)
            .await;
        if fua { self.durable(zeroed) } else { zeroed }
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        if self.is_read_only || !self.properties.can_flush {
            return Ok(());
        }
        self.check_writable()?;
        self.connection.counters().flushes.add(1);
        let flushed = self.ask(Command::Flush, 0..0).await;
        if flushed.is_err() {
            self.flush_has_failed.store(true, Ordering::Release);
        }
        flushed.map(drop)
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.sync_cache().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        if !self.properties.has_block_status {
            return Ok(BlockStatus::one(BlockExtent {
                sector_count: count,
                state: BlockState::Data,
                layer: None,
            }));
        }
        let max = u64::from(self.properties.range_bytes / self.properties.sector_size);
        let count = count.min(max);
        self.connection.counters().status_queries.add(1);
        let range = self.offset(sector)..self.offset(sector + count);
        match self.ask(Command::BlockStatus, range).await? {
            Answer::Extents(extents) => Ok(status::of_extents(
                &extents,
                self.properties.sector_size,
                count,
            )),
            Answer::Done => unreachable!("a status is answered with extents"),
        }
    }

    async fn resize(&self, _sector_count: u64) -> Result<(), DiskError> {
        Err(DiskError::Unsupported)
    }

    /// The protocol has no message for another size.
    async fn wait_resize(&self, sector_count: u64) -> u64 {
        if self.sector_count() != sector_count {
            return self.sector_count();
        }
        future::pending().await
    }

    async fn drain(&self) {
        self.connection.drain().await;
    }
}

impl Inspect for NbdDisk {
    fn inspect(&self, request: inspect::Request<'_>) {
        request
            .respond()
            .field("uri", self.uri())
            .field("server", &self.properties)
            .field(
                "flush_has_failed",
                &self.flush_has_failed.load(Ordering::Relaxed),
            )
            .field("connection", &self.connection)
            .field("bounce", &self.bounce);
    }
}

impl fmt::Debug for NbdDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NbdDisk")
            .field("uri", self.uri())
            .field("properties", &self.properties)
            .finish_non_exhaustive()
    }
}
