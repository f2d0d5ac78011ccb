//! Paths and updates on the tree of a server with a disk made of layers, and disks behind wrappers.
//!
//! Each line is a path, or `path=value`. An error names the path. What was changed is what is shown afterwards, and whatever was changed, the
//! disk made of layers can be used, up to its last sector; those behind wrappers once their rules, limits and delays are gone.

use crate::layer_spec::check_line;
use crate::leaks::{Watch, bound_memory};
use crate::wrapped::Wrapped;
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{LazyRamDiskLayer, ram_disk};
use frontend_nbd::{Export, Limits, Server, ServerHandle};
use futures_lite::future::block_on;
use inspect::InspectError;
use scsi_buffers::HostBuffers;

static WATCH: Watch = Watch::new();
const MEMORY_BYTES_MAX: usize = 128 << 20;
const SECTOR: usize = 512;
const LINES_MAX: usize = 32;
/// What is done when it is set: it shows nothing afterwards.
const COMMANDS: [&str; 4] = ["add", "drop_unflushed", "release", "remove"];

/// One run.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    bound_memory(MEMORY_BYTES_MAX);
    {
        let disk = layered();
        let wrapped = Wrapped::new();
        let exports = [
            ("disk", &disk),
            ("wrapped", &wrapped.disk),
            ("other", &wrapped.other),
        ];
        let exports = exports.map(|(name, disk)| Export::new(name, disk.clone()));
        let exports = exports.map(|export| export.expect("an export"));
        let server = Server::new(exports, Limits::default()).expect("a server");
        let tree = server.handle();
        for line in text.lines().take(LINES_MAX) {
            match line.split_once('=') {
                Some((path, value)) => update(&tree, path, value),
                None => look(&tree, line),
            }
            check_disk(&disk);
            wrapped.try_requests();
        }
        wrapped.set_free();
        wrapped.check();
    }
    WATCH.run_ended();
}

/// A writable layer above a cache above a base that is full of a pattern.
fn layered() -> Disk {
    let base = ram_disk(64 << 10, false).expect("a disk");
    let data = vec![0x5a; 64 << 10];
    let host = HostBuffers::from_ref(&data);
    block_on(base.write_vectored(&host.buffers(), 0, false)).expect("it is writable");
    let cache = LayerConfiguration {
        read_cache: true,
        ..LayerConfiguration::new(DiskLayer::new(LazyRamDiskLayer::new()))
    };
    let layers = vec![
        LayerConfiguration::new(DiskLayer::new(LazyRamDiskLayer::new())),
        cache,
        LayerConfiguration::new(DiskLayer::from_disk(base)),
    ];
    let disk = block_on(LayeredDisk::new(false, layers)).expect("a stack");
    Disk::new(disk).expect("good metadata")
}

fn look(tree: &ServerHandle, line: &str) {
    // A digit at the end of a line is how deep to look.
    let depth = line.chars().last().and_then(|last| last.to_digit(10));
    let depth = depth.map(|depth| depth as usize);
    let path = line.trim_end_matches(|last: char| last.is_ascii_digit());
    for path in [path, line] {
        match block_on(inspect::inspect(path, depth, tree)) {
            Ok(value) => assert!(value.to_string().len() < 1 << 20),
            Err(error) => check_error(&error, path),
        }
    }
}

fn update(tree: &ServerHandle, path: &str, value: &str) {
    match block_on(inspect::update(path, value, tree)) {
        Ok(_) if is_command(path) => {}
        Ok(changed) => {
            let shown = block_on(inspect::inspect(path, None, tree));
            assert_eq!(shown.expect("it is there"), changed, "{path}={value}");
        }
        Err(error) => check_error(&error, path),
    }
}

fn is_command(path: &str) -> bool {
    let last = names(path).pop();
    last.is_some_and(|last| COMMANDS.contains(&last.as_str()))
}

fn check_error(error: &InspectError, path: &str) {
    check_line(&error.to_string());
    let (InspectError::NotFound { path: named, .. }
    | InspectError::NotMutable { path: named }
    | InspectError::Update { path: named, .. }
    | InspectError::Read { path: named, .. }
    | InspectError::TooDeep { path: named, .. }) = error
    else {
        panic!("an unknown error: {error}");
    };
    assert_eq!(names(named), names(path), "{error}");
}

/// The names of a path. There is more than one way to write it.
fn names(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let names = path.split('/');
    names
        .map(|name| name.replace("~1", "/").replace("~0", "~"))
        .collect()
}

fn check_disk(disk: &Disk) {
    let count = disk.sector_count();
    assert!(count > 0, "the disk is gone");
    for sector in [0, count / 2, count - 1] {
        let before = read(disk, sector);
        let is_full_of = |byte: u8| before.iter().all(|found| *found == byte);
        assert!(is_full_of(0) || is_full_of(0x5a) || is_full_of(0xa5));
        let data = [0xa5; SECTOR];
        let host = HostBuffers::from_ref(&data);
        let written = block_on(disk.write_vectored(&host.buffers(), sector, false));
        written.expect("the top takes writes");
        assert!(read(disk, sector) == data, "sector {sector} lost a write");
    }
}

fn read(disk: &Disk, sector: u64) -> Vec<u8> {
    let mut data = vec![0xee; SECTOR];
    let host = HostBuffers::from_mut(&mut data);
    let read = block_on(disk.read_vectored(&host.buffers(), sector));
    read.expect("memory reads");
    drop(host);
    data
}
