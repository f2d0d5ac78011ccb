//! A daemon that links a layer type of its own serves disks with it.

use disk_backend::{Disk, DiskError};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const DOCUMENT: &str = r#"{
  "listen": ["unix:vm.sock"],
  "exports": [
    { "name": "vm",
      "disk": { "type": "layered",
                "layers": [{ "type": "capped", "limit": "1M" }, { "type": "file", "path": "base.raw" }] } }
  ]
}
"#;

async fn write(disk: &Disk, sector: u64, len: usize) -> Result<(), DiskError> {
    let bytes = vec![0x77; len];
    disk.write_vectored(&HostBuffers::from_ref(&bytes).buffers(), sector, false)
        .await
}

#[test]
fn a_guest_of_the_own_daemon_meets_the_limit_of_its_layer() {
    let guide = include_str!("../../../docs/guides/build-a-layer.md");
    assert!(guide.contains(DOCUMENT), "the guide shows another document");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vm.json"), DOCUMENT).unwrap();
    let image = std::fs::File::create(folder.path().join("base.raw")).unwrap();
    image.set_len(64 << 20).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_own_daemon"))
        .arg("vm.json")
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stdout = BufReader::new(daemon.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    assert_eq!(said, "listening at unix:vm.sock\n");

    let client = r#"{ "type": "nbd", "uri": "nbd+unix:///vm?socket=vm.sock" }"#;
    block_on(async {
        let disk = disk_resolver::open_disk(client, folder.path(), false)
            .await
            .unwrap();
        assert_eq!(disk.sector_count(), (64 << 20) / 512);
        write(&disk, 0, 512 << 10).await.unwrap();
        let full = write(&disk, 64 << 10, 1 << 20).await;
        assert!(matches!(full, Err(DiskError::NoSpace)), "{full:?}");
        disk.unmap(0, 1024, false).await.unwrap();
        write(&disk, 64 << 10, 512 << 10).await.unwrap();
    });

    // It ends with its input, and well.
    drop(daemon.stdin.take());
    assert!(daemon.wait().unwrap().success());
}
