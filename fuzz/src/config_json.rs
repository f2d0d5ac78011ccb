//! Texts of configurations, from the parser to a disk that reads.
//!
//! A text that is refused is refused in one line, with a path that leads as far as it can into the text. One that is accepted means
//! the same after it was written out again. Where a check finds a mistake, opening fails; what opens can be read.

use crate::layer_spec::check_line;
use crate::leaks::{Watch, bound_memory};
use crate::policy::may_open;
use disk_backend::Disk;
use disk_resolver::{Config, ConfigError, Document, resolver};
use futures_lite::future::block_on;
use resource::{JsonPath, ResourceResolver, Segment};
use scsi_buffers::HostBuffers;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

static RESOLVER: LazyLock<ResourceResolver> = LazyLock::new(resolver);
static WATCH: Watch = Watch::new();
/// Far more than a text of libFuzzer's usual length can need.
const MEMORY_BYTES_MAX: usize = 128 << 20;
/// The image that there is, and the byte it is full of.
const IMAGE: (&str, u8, usize) = ("base.raw", 0x5a, 64 << 10);

/// One run.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    bound_memory(MEMORY_BYTES_MAX);
    let folder = tempfile::tempdir().expect("there is room for a folder");
    match Config::from_text("fuzz.json", text, folder.path()) {
        Ok(config) => try_config(&config, text, folder.path()),
        Err(error) => check_error(&error, text),
    }
    drop(folder);
    WATCH.run_ended();
}

fn try_config(config: &Config, text: &str, folder: &Path) {
    let document = config.document();
    let written = serde_json::to_string(document).expect("a document is JSON");
    let again =
        Document::from_json(&written).expect("what was read is written so that it can be read");
    assert_eq!(&again, document, "{written}");
    let mistakes = config.check(&RESOLVER, false);
    mistakes.iter().for_each(|error| check_error(error, text));
    let value: Value = serde_json::from_str(text).expect("it was parsed before");
    if !may_open(&value) {
        return;
    }
    let (name, byte, len) = IMAGE;
    fs::write(folder.join(name), vec![byte; len]).expect("there is room for an image");
    match block_on(config.open(&RESOLVER, false)) {
        Ok(exports) => {
            let first = mistakes.first();
            assert!(
                first.is_none(),
                "opened in spite of: {}",
                first.expect("one")
            );
            assert_eq!(exports.len(), document.exports.len());
            exports.iter().for_each(|export| check_disk(&export.disk));
        }
        Err(error) => check_error(&error, text),
    }
}

/// The first and the last sector read as zeros, or as the image, and take a write where the disk is not read-only.
fn check_disk(disk: &Disk) {
    let count = disk.sector_count();
    assert!(count > 0, "a disk without a sector");
    for sector in [0, count - 1] {
        let before = read(disk, sector);
        let (_, byte, _) = IMAGE;
        let is_known = |expected: u8| before.iter().all(|found| *found == expected);
        assert!(is_known(0) || is_known(byte), "sector {sector} is neither");
        if disk.is_read_only() {
            continue;
        }
        let data = vec![0xa5; before.len()];
        let host = HostBuffers::from_ref(&data);
        if block_on(disk.write_vectored(&host.buffers(), sector, false)).is_ok() {
            assert!(read(disk, sector) == data, "sector {sector} lost a write");
        }
        let host = HostBuffers::from_ref(&before);
        // Two exports may be one disk; it is left as it was found.
        let _ = block_on(disk.write_vectored(&host.buffers(), sector, false));
    }
}

fn read(disk: &Disk, sector: u64) -> Vec<u8> {
    let mut data = vec![0xee; disk.sector_size() as usize];
    let host = HostBuffers::from_mut(&mut data);
    block_on(disk.read_vectored(&host.buffers(), sector)).expect("nothing here fails to read");
    drop(host);
    data
}

fn check_error(error: &ConfigError, text: &str) {
    check_line(&error.to_string());
    let ConfigError::Wrong { message, source } = error else {
        panic!("a text has no such error: {error}");
    };
    assert!(message.starts_with("fuzz.json:"), "{message}");
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        check_path(source.path(), &value, message);
    }
}

/// Every step of a path but the last leads to something, so that who reads it finds the place.
fn check_path(path: &JsonPath, mut value: &Value, message: &str) {
    let segments = path.segments();
    for (place, segment) in segments.iter().enumerate() {
        let next = match segment {
            Segment::Key(key) => value.get(key),
            Segment::Index(index) => value.get(index),
        };
        match next {
            Some(next) => value = next,
            None => {
                assert!(
                    place + 1 == segments.len(),
                    "{path} leads nowhere: {message}"
                );
            }
        }
    }
}
