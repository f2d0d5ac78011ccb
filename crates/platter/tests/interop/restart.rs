//! A daemon that is stopped and started again in the middle of a copy by a client that does not wait for it, and is run again.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::control::Control;
use crate::support::tool::{Outcome, outcome};
use crate::support::{Daemon, MIB, Random, assert_same_bytes, peers, read, run, write};

const SIZE: u64 = 16 * MIB;
const SECTOR: usize = 512;

/// What is copied before the copy comes to a near standstill; the rest would take a minute and a half.
const BURST: u64 = 4 * MIB;
const BYTES_PER_SECOND: u64 = 128 << 10;

/// A durable layer on a store that loses what was not flushed before its daemon ends; `is_slow`, it takes a burst and then little.
fn document(is_slow: bool) -> Value {
    let store = json!({ "type": "file", "path": "layer.plt" });
    let rules = json!([{ "action": { "reorder": 4096 } }]);
    let store = json!({ "type": "fault", "seed": 7, "rules": rules, "disk": store });
    let layer = json!({ "type": "durable", "create": true, "store": store });
    let base = json!({ "type": "file", "path": "base.raw", "read_only": true });
    let disk = json!({ "type": "layered", "layers": [layer, base] });
    match is_slow {
        false => disk,
        true => json!({
            "type": "throttle", "bytes_per_second": BYTES_PER_SECOND, "burst_bytes": BURST, "disk": disk,
        }),
    }
}

#[track_caller]
fn serve(folder: tempfile::TempDir, document: &str) -> Daemon {
    Daemon::serve_in(folder, [document, "--control", "control.sock"])
}

/// With few requests at a time, so that the daemon has little to finish when it is stopped.
fn copy(nbdcopy: &Path, image: &Path, uri: &str) -> Command {
    let mut command = Command::new(nbdcopy);
    let few = ["--connections=1", "--requests=2", "--request-size=32768"];
    command.args(few).arg("--flush").arg(image).arg(uri);
    command
}

/// How many sectors are new, of which each has to be either new or old.
#[track_caller]
fn new_sectors(found: &[u8], old: &[u8], new: &[u8]) -> u64 {
    assert_eq!(found.len(), old.len(), "lengths differ");
    let sectors = found
        .chunks(SECTOR)
        .zip(old.chunks(SECTOR))
        .zip(new.chunks(SECTOR));
    let is_new = sectors.enumerate().map(|(index, ((found, old), new))| {
        assert!(
            found == old || found == new,
            "sector {index} is neither what was flushed nor what was being copied"
        );
        u64::from(found == new)
    });
    is_new.sum()
}

#[test]
fn a_copy_that_a_restart_cuts_off_fails_loses_nothing_and_is_right_when_it_is_tried_again() {
    let Some([nbdcopy]) = peers(["nbdcopy"]) else {
        return;
    };
    let images = tempfile::tempdir().unwrap();
    let image = |name: &str, seed| {
        let (path, bytes) = (images.path().join(name), Random::new(seed).bytes(SIZE));
        write(&path, &bytes);
        (path, bytes)
    };
    let (old_image, old) = image("old.raw", 81);
    let (new_image, new) = image("new.raw", 82);

    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("base.raw"), vec![0; SIZE as usize]);
    write(
        &folder.path().join("disk.json"),
        document(false).to_string(),
    );
    write(&folder.path().join("slow.json"), document(true).to_string());
    let daemon = serve(folder, "disk.json");
    run(&mut copy(&nbdcopy, &old_image, &daemon.uri()));
    let folder = daemon.stop();

    let mut daemon = serve(folder, "slow.json");
    let mut control = Control::connect(&daemon.folder().join("control.sock"));
    let mut command = copy(&nbdcopy, &new_image, &daemon.uri());
    let copying = std::thread::spawn(move || outcome(&mut command));
    let mut written_bytes = 0;
    daemon.wait_until(|_| {
        let counter = control.inspect("exports//disk/disk/layers/0/counters/bytes_written");
        written_bytes = counter.as_u64().expect("a counter is a number");
        written_bytes >= BURST
    });
    assert!(written_bytes < SIZE, "the copy was not slow");
    daemon.signal(Signal::TERM);
    let Outcome { status, stderr, .. } = copying.join().unwrap();
    assert!(!status.success(), "a copy that was cut off is no success");
    assert!(stderr.contains("nbdcopy: "), "{stderr}");
    let uri = daemon.uri();
    let (status, log, folder) = daemon.wait();
    assert!(status.success(), "{status}\n{log}");

    // Nobody is there: that is a failure as well.
    let refused = outcome(&mut copy(&nbdcopy, &new_image, &uri));
    assert!(!refused.status.success());

    let daemon = serve(folder, "disk.json");
    let back = images.path().join("back.raw");
    run(Command::new(&nbdcopy).arg(daemon.uri()).arg(&back));
    let new_bytes = new_sectors(&read(&back), &old, &new) * SECTOR as u64;
    // What was acknowledged is there although nobody had flushed it: the daemon did, as it ended.
    assert!(
        (written_bytes..SIZE).contains(&new_bytes),
        "{new_bytes} of {written_bytes} are there"
    );
    run(&mut copy(&nbdcopy, &new_image, &daemon.uri()));
    let folder = daemon.stop();
    let daemon = serve(folder, "disk.json");
    run(Command::new(&nbdcopy).arg(daemon.uri()).arg(&back));
    assert_same_bytes(&read(&back), &new);
    daemon.stop();
}
