//! Makes a durable layer of 1 TiB, of which 100 GiB are present, and measures how long it takes to open it.
//!
//! Row 10: a tool. `cargo xtask bench durable` prints it beside its limit. In each stripe there are 4 KiB of data, and zeros elsewhere, so that
//! all that is recorded of 100 GiB is there, in pages and in a log that is nearly full, and the file has holes where the data would be. It
//! is left as a crash leaves it.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use disk_backend::Disk;
use disk_file::{FileDisk, FileDiskOptions};
use disk_layered::LayerIo;
use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, LayerInfo, format, info};
use futures_lite::future::block_on;
use rustix::fs::{Advice, fadvise};
use scsi_buffers::HostBuffers;

const SECTORS: u64 = (1 << 40) / 512;
const PRESENT_SECTORS: u64 = (100 << 30) / 512;

/// After so many stripes there is a flush.
const STRIPES_PER_FLUSH: u64 = 256;

/// So many blocks of the log may stay free.
const FREE_BLOCKS_MAX: u32 = 16;

/// Print how long opening took with a cold and a warm page cache, in milliseconds, as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// The file to make; it takes some 250 MiB
    path: PathBuf,
    /// How often it is opened each way
    #[arg(long)]
    rounds: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let info = block_on(make(&args.path))?;
    let file = File::open(&args.path)?;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        // What is dirty stays in the cache.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        cold.push(opened(&args.path)?);
        warm.push(opened(&args.path)?);
    }
    let report = serde_json::json!({
        "cold_ms": cold,
        "warm_ms": warm,
        "log_bytes": u64::from(info.log_blocks_used) * 4096,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

fn store(path: &Path) -> Result<Disk, Box<dyn Error>> {
    let file = FileDisk::open(path, &FileDiskOptions::default())?;
    Ok(Disk::new(file)?)
}

/// Opens the file and the layer, which reads nothing of what is present; for how long, in milliseconds.
fn opened(path: &Path) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let layer = block_on(DurableLayer::open(store(path)?, &DurableOptions::default()))?;
    let took = begun.elapsed();
    assert_eq!(layer.sector_count(), SECTORS);
    Ok(took.as_secs_f64() * 1000.0)
}

async fn make(path: &Path) -> Result<LayerInfo, Box<dyn Error>> {
    std::fs::write(path, [0; 8192])?;
    let store = store(path)?;
    format(&store, &FormatOptions::new(SECTORS)).await?;
    let layer = DurableLayer::open(store.clone(), &DurableOptions::default()).await?;
    let made = info(&store).await?;
    let length = u64::from(made.stripe_sectors);
    let stripes = PRESENT_SECTORS / length;
    for stripe in 0..stripes {
        fill(&layer, stripe, length).await?;
        if stripe % STRIPES_PER_FLUSH == 0 {
            layer.sync_cache().await?;
        }
    }
    // Where the log happens to be nearly empty there would be nothing to read.
    for stripe in 0..stripes {
        let used = info(&store).await?.log_blocks_used;
        if made.log_blocks - used <= FREE_BLOCKS_MAX {
            break;
        }
        layer.unmap(stripe * length, 8, false, false).await?;
        layer.sync_cache().await?;
    }
    Ok(info(&store).await?)
}

/// Makes all sectors of a stripe present.
async fn fill(layer: &DurableLayer, stripe: u64, length: u64) -> Result<(), Box<dyn Error>> {
    let first = stripe * length;
    layer.unmap(first, length, false, false).await?;
    let data = HostBuffers::from_ref(&[0x5a; 4096]);
    layer.write(&data.buffers(), first, false).await?;
    Ok(())
}
