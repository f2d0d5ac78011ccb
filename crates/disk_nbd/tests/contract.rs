//! A disk on an NBD server keeps the contract, and so does one in a stack.

mod common;

use common::Running;
use disk_backend::Disk;
use disk_contract::{DiskSpec, Suite, Violation};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disk_nbd::{NbdDisk, NbdOptions};
use disklayer_ram::{RamDiskLayer, ram_disk};
use frontend_nbd::Export;
use futures_lite::future::block_on;
use std::cell::RefCell;

/// Servers that run until the test is over.
#[derive(Default)]
struct Servers(RefCell<Vec<Running>>);

impl Servers {
    /// A server of its own for the disk, whose content is there before anybody connects.
    async fn disk(&self, spec: &DiskSpec, is_read_only_there: bool) -> Disk {
        let size_bytes = spec.sector_count * u64::from(spec.sector_size);
        let ram = ram_disk(size_bytes, false).expect("a disk");
        spec.fill(&ram).await.expect("it takes writes");
        let export = Export::new("disk", ram).expect("an export");
        let server = Running::new(match is_read_only_there {
            true => export.read_only(),
            false => export,
        });
        let options = NbdOptions::new(spec.is_read_only && !is_read_only_there);
        let disk = NbdDisk::connect(&server.uri(), &options).await;
        self.0.borrow_mut().push(server);
        Disk::new(disk.expect("it connects")).expect("valid metadata")
    }
}

fn suite() -> Suite {
    // Our server takes requests of any size, so its sectors are the smallest.
    Suite::new().sector_sizes([512])
}

#[test]
fn a_disk_on_a_server_keeps_the_contract() -> Result<(), Violation> {
    let servers = Servers::default();
    suite().check_disks(async |spec| servers.disk(&spec, false).await)
}

#[test]
fn a_disk_that_is_read_only_at_the_server_keeps_the_contract() -> Result<(), Violation> {
    let servers = Servers::default();
    let suite = suite().fixed_seed_count(1).step_count(20);
    suite.check_disks(async |spec| servers.disk(&spec, spec.is_read_only).await)
}

#[test]
fn a_stack_over_a_server_keeps_the_contract() -> Result<(), Violation> {
    let servers = Servers::default();
    let suite = suite().fixed_seed_count(1).sector_counts([1, 30]);
    suite.check_disks(async |spec| {
        let mut below = spec.clone();
        below.is_read_only = true;
        let base = servers.disk(&below, spec.seed % 2 == 0).await;
        let size_bytes = spec.sector_count * u64::from(spec.sector_size);
        let top = RamDiskLayer::new(size_bytes).expect("a layer");
        let layers = [DiskLayer::new(top), DiskLayer::from_disk(base)];
        let layers = layers.into_iter().map(LayerConfiguration::new).collect();
        let stack = LayeredDisk::new(spec.is_read_only, layers).await;
        Disk::new(stack.expect("a legal stack")).expect("valid metadata")
    })
}

#[test]
fn what_one_connection_wrote_another_reads() {
    let server = Running::ram(1 << 20);
    let (one, other) = (server.connect(), server.connect());
    let data = common::pattern(4096, 1);
    let mut found = vec![0; 4096];
    block_on(async {
        let from = scsi_buffers::HostBuffers::from_ref(&data);
        one.write_vectored(&from.buffers(), 3, false).await.unwrap();
        let into = scsi_buffers::HostBuffers::from_mut(&mut found);
        other.read_vectored(&into.buffers(), 3).await.unwrap();
    });
    assert!(found == data);
}
