//! A disk in a tokio program: each request is a task, and the tasks run on as many threads as there are.
//!
//! `cargo run -p programs --bin with_tokio`
#![allow(
    clippy::print_stdout,
    reason = "an example talks to whoever started it"
)]

use disk_backend::{Disk, DiskError};
use scsi_buffers::HostBuffers;
use tokio::task::JoinSet;

/// A layer in memory over an image; in earnest, over a file.
const DISK: &str = r#"{
    "type": "layered",
    "layers": [{ "type": "ram" }, { "type": "ram", "size": "64M" }]
}"#;

const BLOCK_COUNT: u64 = 64;
const BLOCK_BYTES: usize = 4096;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let disk = disk_resolver::open_disk(DISK, "", false).await?;

    // The handle is cheap to clone, and all clones are the same disk.
    let mut tasks = JoinSet::new();
    for block in 0..BLOCK_COUNT {
        tasks.spawn(write_block(disk.clone(), block));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    disk.sync_cache().await?;
    println!("wrote {BLOCK_COUNT} blocks, and flushed");

    for block in 0..BLOCK_COUNT {
        tasks.spawn(check_block(disk.clone(), block));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    println!("read them back");

    // Somebody who wants to know of a new size, such as a device that tells its guest.
    let (watched, old) = (disk.clone(), disk.sector_count());
    let watcher = tokio::spawn(async move { watched.wait_resize(old).await });
    disk.resize(2 * old).await?;
    println!("grew from {old} to {} sectors", watcher.await?);

    // When a task is aborted its request may still happen. After this nothing is on its way any more.
    disk.drain().await;
    let held = inspect::inspect("layers/0/backing/committed_size", None, &disk).await?;
    println!("the top layer holds {held} bytes");
    Ok(())
}

async fn write_block(disk: Disk, block: u64) -> Result<(), DiskError> {
    let bytes = [block as u8; BLOCK_BYTES];
    let buffers = HostBuffers::from_ref(&bytes);
    disk.write_vectored(&buffers.buffers(), first_sector(&disk, block), false)
        .await
}

async fn check_block(disk: Disk, block: u64) -> Result<(), DiskError> {
    let mut bytes = [0; BLOCK_BYTES];
    disk.read_vectored(
        &HostBuffers::from_mut(&mut bytes).buffers(),
        first_sector(&disk, block),
    )
    .await?;
    assert_eq!(bytes, [block as u8; BLOCK_BYTES], "block {block}");
    Ok(())
}

fn first_sector(disk: &Disk, block: u64) -> u64 {
    (block * BLOCK_BYTES as u64) >> disk.sector_shift()
}
