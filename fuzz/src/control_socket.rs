//! Bytes to the daemon's control socket.
//!
//! Each line has one reply, in the order of the lines, with the id that it gave; a reply is an object with `ok`, or with an error
//! that has a message. When the client leaves, so does the daemon's thread, and every export that there is can be read.

use crate::leaks::{Watch, bound_memory};
use crate::policy::may_open_without_files;
use crate::wrapped::Wrapped;
use disk_resolver::resolver;
use disklayer_ram::ram_disk;
use frontend_nbd::{Export, Limits, Server, ServerHandle};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

static WATCH: Watch = Watch::new();
const MEMORY_BYTES_MAX: usize = 128 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// One run.
pub fn run(bytes: &[u8]) {
    bound_memory(MEMORY_BYTES_MAX);
    {
        let disk = ram_disk(64 << 10, false).expect("a disk");
        let export = Export::new("disk", disk).expect("an export");
        let wrapped = Wrapped::new();
        let throttled = Export::new("throttled", wrapped.other.clone()).expect("an export");
        let server = Server::new([export, throttled], Limits::default()).expect("a server");
        let handle = server.handle();
        let lines: Vec<&[u8]> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| may_be_sent(line))
            .collect();
        talk(&handle, &lines);
        wrapped.set_free();
        handle
            .export_names()
            .iter()
            .for_each(|name| check_export(&handle, name));
    }
    WATCH.run_ended();
}

fn talk(server: &ServerHandle, lines: &[&[u8]]) {
    let (here, there) = UnixStream::pair().expect("there are descriptors");
    here.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut sender = here.try_clone().expect("there are descriptors");
    let mut replies = BufReader::new(here);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            platter::trial::answer_control_client(server.clone(), resolver(), there.into())
        });
        scope.spawn(move || {
            for line in lines {
                // The daemon closes after a line that is too long, which none is.
                sender.write_all(line).expect("the daemon listens");
            }
            sender.shutdown(Shutdown::Write).expect("it is connected");
        });
        for line in lines.iter().filter(|line| line.ends_with(b"\n")) {
            check_reply(line, &hear(&mut replies).expect("a reply to each line"));
        }
        assert_eq!(hear(&mut replies), None, "a reply to nothing");
    });
}

fn hear(replies: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = Vec::new();
    let len = replies.read_until(b'\n', &mut line);
    match len.expect("the daemon answers in time") {
        0 => None,
        _ => Some(serde_json::from_slice(&line).expect("a reply is JSON")),
    }
}

fn check_reply(line: &[u8], reply: &Value) {
    let error = reply.get("error");
    assert_ne!(reply.get("ok").is_some(), error.is_some(), "{reply}");
    if let Some(error) = error {
        let message = error.get("message").and_then(Value::as_str);
        assert!(
            message.is_some_and(|message| !message.is_empty()),
            "{reply}"
        );
        assert!(error.get("path").is_none_or(Value::is_string), "{reply}");
    }
    // A request that cannot be read has no id.
    let request = serde_json::from_slice::<Value>(line).unwrap_or_default();
    if let Some(id) = reply.get("id") {
        assert_eq!(request.get("id"), Some(id));
    } else if error.is_none() {
        assert_eq!(request.get("id"), None);
    }
}

/// Paths in a request are anywhere, so none that opens a file is made, and none of a server or a disk that waits.
fn may_be_sent(line: &[u8]) -> bool {
    line.len() < 1 << 20
        && serde_json::from_slice(line).map_or(true, |value| may_open_without_files(&value))
}

/// What was added or resized can be read, up to its last sector.
fn check_export(server: &ServerHandle, name: &str) {
    let disk = server.disk(name).expect("nobody removes it now");
    assert!(disk.sector_count() > 0);
    for sector in [0, disk.sector_count() - 1] {
        let mut data = vec![0xee; disk.sector_size() as usize];
        let host = HostBuffers::from_mut(&mut data);
        let read = block_on(disk.read_vectored(&host.buffers(), sector));
        read.expect("memory reads");
        drop(host);
        assert!(data.iter().all(|byte| *byte == 0), "nobody wrote");
    }
}
