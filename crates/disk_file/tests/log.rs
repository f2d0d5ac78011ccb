//! What is said of sizes: what somebody else did, and not what was asked for. Alone in its program, for all that is said there is heard.

mod common;

use common::open;
use disk_file::FileDiskOptions;
use futures_lite::future::block_on;
use std::fmt::{self, Write};
use std::fs::{self, File};
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what is said to people who did not ask for more.
struct Listener;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        SAID.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_size_that_the_disk_was_given_is_no_news_and_one_from_outside_is() {
    tracing::subscriber::set_global_default(Listener).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    fs::write(&path, [1; 4096]).unwrap();
    let disk = open(&path, &FileDiskOptions::default()).unwrap();
    let outside = File::options().write(true).open(&path).unwrap();
    for round in 0..2 {
        for sectors in [100 + round, 7] {
            let before = disk.sector_count();
            block_on(disk.resize(sectors)).unwrap();
            assert_eq!(block_on(disk.wait_resize(before)), sectors);
        }
        let said = std::mem::take(&mut *SAID.lock().unwrap());
        assert_eq!(said, [""; 0]);
        // With a piece that is no whole sector: to grow again takes two steps.
        outside.set_len(50 * 512 + 100).unwrap();
        assert_eq!(block_on(disk.wait_resize(7)), 50);
        let said = std::mem::take(&mut *SAID.lock().unwrap());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("has another size"), "{said:?}");
    }
}
