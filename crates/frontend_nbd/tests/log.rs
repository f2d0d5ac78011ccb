//! What the log says of clients. A program of its own, because the log is that of the whole process.

mod common;

use common::Running;
use common::client::{OPT_EXPORT_NAME, READ, Style, request};
use common::disk::TestDisk;
use common::{export, wait_until};
use frontend_nbd::Limits;
use parking_lot::Mutex;
use std::io::{self, Write};
use std::sync::Arc;

/// Lines, as they are written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn with(&self, text: &str) -> Vec<String> {
        let all = String::from_utf8_lossy(&self.0.lock()).into_owned();
        let lines = all.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

#[test]
fn a_rush_of_clients_is_one_line_and_a_probe_is_none() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .init();
    let disk = TestDisk::new();
    let mut limits = Limits::default();
    limits.connections_max = 3;
    limits.connections_per_export_max = Some(1);
    let server = Running::new([export("disk", disk.disk())], limits);

    // Somebody looks whether anybody is there, in several ways.
    drop(server.connect());
    let mut listener = server.connect();
    listener.receive::<18>();
    listener.finish_sending();
    listener.expect_closed();
    let greeted = server.greeted();
    drop(greeted);
    let probes = || lines.with("connection ended").len();
    wait_until(|| probes() == 3, || format!("{probes}", probes = probes()));
    assert_eq!(lines.with("WARN"), [""; 0]);

    let _first = server.client(Style::Simple);
    let _others = [server.greeted(), server.greeted()];
    server.wait_for_connections(3);
    for _ in 0..50 {
        server.connect().expect_closed();
    }
    let told = lines.with("WARN");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("there are 3 already"), "{told:?}");

    let mut raised = server.handle.limits();
    raised.connections_max = 100;
    server.handle.set_limits(raised);
    for _ in 0..50 {
        let mut client = server.greeted();
        client.send_option(OPT_EXPORT_NAME, b"disk");
        client.expect_closed();
    }
    let told = lines.with("WARN");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("may use the export already"), "{told:?}");

    // What is worth a line.
    let mut rude = server.greeted();
    rude.send(&request(READ, 0, 0, 0, 0));
    rude.expect_closed();
    wait_until(
        || lines.with("protocol error").len() == 1,
        || lines.with("WARN").join("\n"),
    );
}
