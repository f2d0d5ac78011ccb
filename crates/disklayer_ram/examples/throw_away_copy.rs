//! A virtual machine's disk, as its VMM sees it: a throw-away copy of an image that is never written.
//!
//! `cargo run -p disklayer_ram --example throw_away_copy`
#![allow(
    clippy::print_stdout,
    reason = "an example talks to whoever started it"
)]

use disk_backend::{Disk, DiskError};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{LazyRamDiskLayer, ram_disk};
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use scsi_buffers::OwnedRequestBuffers;
use std::error::Error;

/// Where the guest put its buffer, and how long it is.
const BUFFER_ADDRESS: u64 = 0x1_0000;
const BUFFER_LEN: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    block_on(async {
        let guest = GuestMemory::allocate(1 << 20);
        let base = image(&guest).await?;
        let copy = throw_away_copy(base.clone()).await?;

        println!("the copy begins as:  {}", first_words(&copy, &guest).await?);
        guest.write_at(BUFFER_ADDRESS, b"changed by the guest")?;
        write_buffer(&copy, &guest).await?;
        println!("the copy holds now:  {}", first_words(&copy, &guest).await?);
        println!("the image holds:     {}", first_words(&base, &guest).await?);

        let memory = inspect::inspect("layers/0/backing/committed_size", None, &copy).await?;
        println!("memory of the copy:  {memory} bytes");
        Ok(())
    })
}

/// Stands for an image in a file (`disk_file`), so that the example needs none.
async fn image(guest: &GuestMemory) -> Result<Disk, Box<dyn Error>> {
    let disk = ram_disk(64 << 20, false)?;
    guest.write_at(BUFFER_ADDRESS, b"written by the image")?;
    write_buffer(&disk, guest).await?;
    Ok(disk)
}

/// A layer in memory above `base`, of the same size, that takes all writes.
async fn throw_away_copy(base: Disk) -> Result<Disk, Box<dyn Error>> {
    let layers = [
        DiskLayer::new(LazyRamDiskLayer::new()),
        DiskLayer::from_disk(base),
    ];
    let stack = LayeredDisk::new(false, layers.map(LayerConfiguration::new).into()).await?;
    Ok(Disk::new(stack)?)
}

/// What a device model does for a guest's write request: describe the guest's memory, and hand it on.
async fn write_buffer(disk: &Disk, guest: &GuestMemory) -> Result<(), DiskError> {
    let request = OwnedRequestBuffers::linear(BUFFER_ADDRESS, BUFFER_LEN, false);
    disk.write_vectored(&request.buffer(guest), 0, false).await
}

/// Reads the first sectors of `disk` into the guest's buffer, and shows the beginning.
async fn first_words(disk: &Disk, guest: &GuestMemory) -> Result<String, Box<dyn Error>> {
    let request = OwnedRequestBuffers::linear(BUFFER_ADDRESS, BUFFER_LEN, true);
    disk.read_vectored(&request.buffer(guest), 0).await?;
    let mut words = [0; 20];
    guest.read_at(BUFFER_ADDRESS, &mut words)?;
    Ok(String::from_utf8_lossy(&words).into_owned())
}
