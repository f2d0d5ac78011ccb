//! Metrics: what a scraper gets, and what a rude one does not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use crate::support::client;
use crate::support::{Daemon, KIB, MIB, TIME_MAX};

/// The reply to a request, as it comes.
#[track_caller]
fn ask(mut stream: impl Read + Write, request: &[u8]) -> String {
    // Whoever is refused early may not have been heard to the end.
    let _ = stream.write_all(request);
    let mut reply = Vec::new();
    stream
        .read_to_end(&mut reply)
        .expect("it replies and hangs up");
    String::from_utf8(reply).expect("a reply is text")
}

#[track_caller]
fn scrape(daemon: &Daemon) -> String {
    let socket = client::connect(&daemon.folder().join("metrics.sock"));
    let reply = ask(socket, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, page) = reply.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", page.len())),
        "{head}"
    );
    page.to_owned()
}

/// The value of a metric with these labels.
#[track_caller]
fn value(page: &str, metric: &str) -> f64 {
    let mut lines = page.lines();
    let found = lines.find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("no {metric} in:\n{page}"));
    found.parse().expect("a value is a number")
}

#[test]
fn metrics_tell_what_clients_did_and_which_layer_answered() {
    let daemon = Daemon::serve(["--layer", "ram:1M", "--metrics", "unix:metrics.sock"]);
    let mode = std::fs::metadata(daemon.folder().join("metrics.sock"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let mut client = daemon.client();
    client.write(0, &[1; 4 * KIB as usize]);
    client.read(0, 8 * KIB as u32);
    client.read(0, 8 * KIB as u32);
    let page = scrape(&daemon);
    for (metric, expected) in [
        ("platter_info{version=\"0.1.0\"}", 1),
        ("platter_exports", 1),
        ("platter_export_size_bytes{export=\"\"}", MIB),
        ("platter_requests_total{export=\"\",operation=\"read\"}", 2),
        (
            "platter_request_bytes_total{export=\"\",operation=\"read\"}",
            16 * KIB,
        ),
        (
            "platter_request_duration_seconds_count{export=\"\",operation=\"write\"}",
            1,
        ),
        (
            "platter_request_duration_seconds_bucket{export=\"\",operation=\"read\",le=\"+Inf\"}",
            2,
        ),
        (
            "platter_layer_written_bytes_total{export=\"\",layer=\"0\",type=\"ram\"}",
            4 * KIB,
        ),
        (
            "platter_layer_hit_bytes_total{export=\"\",layer=\"0\",type=\"ram\"}",
            8 * KIB,
        ),
    ] {
        assert_eq!(value(&page, metric), expected as f64, "{metric}");
    }
    assert!(!page.contains("operation=\"trim\""), "nobody has trimmed");
    assert_well_formed(&page);
    client.disconnect();
    let folder = daemon.stop();
    assert!(!folder.path().join("metrics.sock").exists());
}

/// Every sample belongs to the family that was announced last, and no family is announced twice.
#[track_caller]
fn assert_well_formed(page: &str) {
    let mut families = Vec::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let family = help.split(' ').next().unwrap();
            assert!(!families.contains(&family), "twice: {family}");
            families.push(family);
            continue;
        }
        let family = families.last().expect("help comes first");
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(kind.starts_with(family), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
        assert!(name.starts_with(family), "{line}");
        value
            .parse::<f64>()
            .unwrap_or_else(|_| panic!("no number: {line}"));
    }
}

#[test]
fn a_port_is_on_the_loopback_and_everything_but_metrics_is_refused() {
    let daemon = Daemon::serve(["--layer", "ram:1M", "--metrics", "tcp:0"]);
    let log = daemon.log();
    let place = log
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"));
    let place = place
        .and_then(|place| place.strip_suffix("/metrics"))
        .expect("it says where");
    assert!(place.starts_with("127.0.0.1:"), "{place}");
    let long = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 20_000]].concat();
    for (request, status) in [
        (&b"GET /metrics HTTP/1.1\r\n\r\n"[..], "200"),
        (b"GET /other HTTP/1.1\r\n\r\n", "404"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"\x16\x03\x01\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let stream = TcpStream::connect(place).expect("it listens");
        stream.set_read_timeout(Some(TIME_MAX)).unwrap();
        let mut stream = stream;
        let _ = stream.write_all(request);
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).expect("it replies");
        assert_eq!(
            &reply[9..],
            status.as_bytes(),
            "{}",
            String::from_utf8_lossy(request)
        );
    }
    // Those who never finish their request are bounded, and hold up nobody who is inside.
    let _silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(place).unwrap())
        .collect();
    daemon.client().write(0, &[1; 512]);
    daemon.stop();
}
