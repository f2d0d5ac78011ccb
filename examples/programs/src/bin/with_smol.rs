//! A disk in a smol program: one thread and one task, with many requests on their way at once.
//!
//! `cargo run -p programs --bin with_smol`
#![allow(
    clippy::print_stdout,
    reason = "an example talks to whoever started it"
)]

use disk_backend::{Disk, DiskError};
use futures_util::future::try_join_all;
use scsi_buffers::HostBuffers;
use std::fs::File;

/// A throw-away copy of an image. The path is relative to the folder that `open_disk` is given.
const DISK: &str = r#"{
    "type": "layered",
    "layers": [{ "type": "ram" }, { "type": "file", "path": "base.raw" }]
}"#;

const BLOCK_COUNT: u64 = 64;
const BLOCK_BYTES: usize = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    File::create(folder.path().join("base.raw"))?.set_len(64 << 20)?;
    smol::block_on(async {
        let disk = disk_resolver::open_disk(DISK, folder.path(), false).await?;

        // All are polled by this task alone: none needs another one to be polled.
        try_join_all((0..BLOCK_COUNT).map(|block| write_block(&disk, block))).await?;
        disk.sync_cache().await?;
        println!("wrote {BLOCK_COUNT} blocks, and flushed");

        try_join_all((0..BLOCK_COUNT).map(|block| check_block(&disk, block))).await?;
        println!("read them back");

        // Whoever waits for a new size has other work meanwhile, such as changing it.
        let old = disk.sector_count();
        let (new, resized) = smol::future::zip(disk.wait_resize(old), disk.resize(2 * old)).await;
        resized?;
        println!("grew from {old} to {new} sectors");

        // A request that we no longer wait for may still happen. After this nothing is on its way any more.
        drop(smol::future::poll_once(check_block(&disk, 0)).await);
        disk.drain().await;
        let held = inspect::inspect("layers/0/backing/committed_size", None, &disk).await?;
        println!("the top layer holds {held} bytes");
        Ok(())
    })
}

async fn write_block(disk: &Disk, block: u64) -> Result<(), DiskError> {
    let bytes = [block as u8; BLOCK_BYTES];
    let buffers = HostBuffers::from_ref(&bytes);
    disk.write_vectored(&buffers.buffers(), first_sector(disk, block), false)
        .await
}

async fn check_block(disk: &Disk, block: u64) -> Result<(), DiskError> {
    let mut bytes = [0; BLOCK_BYTES];
    disk.read_vectored(
        &HostBuffers::from_mut(&mut bytes).buffers(),
        first_sector(disk, block),
    )
    .await?;
    assert_eq!(bytes, [block as u8; BLOCK_BYTES], "block {block}");
    Ok(())
}

fn first_sector(disk: &Disk, block: u64) -> u64 {
    (block * BLOCK_BYTES as u64) >> disk.sector_shift()
}
