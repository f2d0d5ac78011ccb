//! A thousand machines on one image: what they cost, that each has its own content, and that who leaves takes nothing along.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::control::Control;
use crate::support::daemon::{STDOUT, log_file, platter};
use crate::support::process::{resident_bytes, resident_bytes_max};
use crate::support::{Daemon, KIB, MIB, Random, assert_same_bytes, write};

const COUNT: u64 = 1000;
const BASE_BYTES: u64 = 1 << 30;
/// What each machine writes.
const OWN_BYTES: u64 = 64 * KIB;

fn name(index: u64) -> String {
    format!("vm{index}")
}

/// A document with so many overlays of one image.
fn document() -> Value {
    let layers =
        json!([{ "type": "ram" }, { "type": "file", "path": "base.raw", "read_only": true }]);
    let disk = json!({ "type": "layered", "layers": layers });
    let exports: Vec<Value> = (0..COUNT)
        .map(|index| json!({ "name": name(index), "disk": disk }))
        .collect();
    json!({ "exports": exports })
}

#[test]
fn a_thousand_overlays_of_one_image_are_cheap_separate_and_gone_when_removed() {
    let folder = tempfile::tempdir().unwrap();
    let base = File::create(folder.path().join("base.raw")).unwrap();
    base.set_len(BASE_BYTES).unwrap();
    let of_base = Random::new(80).bytes(OWN_BYTES);
    base.write_all_at(&of_base, BASE_BYTES / 2).unwrap();
    write(&folder.path().join("vms.json"), document().to_string());
    let mut command = platter(folder.path());
    command.args([
        "serve",
        "vms.json",
        "--listen",
        "unix:nbd.sock",
        "--control",
        "control.sock",
    ]);
    let stdout = log_file(&folder, STDOUT);
    let begun = Instant::now();
    let daemon = Daemon::start(folder, command, stdout, "nbd.sock");
    println!("{COUNT} overlays are ready after {:?}", begun.elapsed());

    // The pages of the image are the kernel's, and count for nobody.
    let before = resident_bytes_max(daemon.pid());
    println!("{} MiB resident at most before any write", before / MIB);
    assert!(
        before < 64 * MIB,
        "{} MiB for overlays that hold nothing",
        before / MIB
    );

    let open = |index| Client::open(daemon.connect(), &name(index)).expect("it is served");
    let own = |index| Random::new(1000 + index).bytes(OWN_BYTES);
    for index in 0..COUNT {
        let mut client = open(index);
        client.write(index * MIB, &own(index));
        client.disconnect();
    }
    let full = resident_bytes(daemon.pid());
    let stored = COUNT * OWN_BYTES;
    println!("{} MiB hold {} MiB", full / MIB, stored / MIB);
    assert!(full > stored, "the measure is blind");
    for index in 0..COUNT {
        let mut client = open(index);
        assert_same_bytes(&client.read(index * MIB, OWN_BYTES as u32), &own(index));
        // What the next one wrote is its own, and the image shows through.
        let elsewhere = (index + 1) % COUNT * MIB;
        if elsewhere != BASE_BYTES / 2 {
            assert_same_bytes(&client.read(elsewhere, 512), &[0; 512]);
        }
        if index * MIB != BASE_BYTES / 2 {
            assert_same_bytes(&client.read(BASE_BYTES / 2, OWN_BYTES as u32), &of_base);
        }
        client.disconnect();
    }

    let mut control = Control::connect(&daemon.folder().join("control.sock"));
    let kept = 100;
    let begun = Instant::now();
    for index in kept..COUNT {
        control.get(json!({ "op": "remove_export", "name": name(index) }));
    }
    println!(
        "{} exports are removed after {:?}",
        COUNT - kept,
        begun.elapsed()
    );
    let rest = resident_bytes(daemon.pid());
    println!("{} MiB are left for {kept} overlays", rest / MIB);
    let removed = (COUNT - kept) * OWN_BYTES;
    assert!(
        rest + removed * 9 / 10 < full,
        "{} of {} MiB are left",
        rest / MIB,
        full / MIB
    );
    assert_same_bytes(&open(7).read(7 * MIB, OWN_BYTES as u32), &own(7));
    daemon.stop();
}
