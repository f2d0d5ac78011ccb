//! TLS from `STARTTLS` on: who gets in, that everything works inside, and what noise does.

mod common;

use common::client::{
    Client, OPT_ABORT, OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST,
    OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, READ, REP_ACK, REP_ERR_INVALID,
    REP_ERR_TLS_REQD, REP_ERR_UNSUP, STYLES, Style, WRITE, contexts, info_request, option,
};
use common::disk::{Kind, TestDisk, Traits};
use common::random::rounds;
use common::tls::{Authority, Identity, wrap};
use common::{Running, export, pattern};
use frontend_nbd::{Limits, TlsConfig};
use rustls::version::{TLS12, TLS13};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// A server whose clients need TLS, or may use it, and perhaps need a certificate.
struct Secure {
    server: Running,
    authority: Authority,
    disk: TestDisk,
}

impl Secure {
    fn new() -> Self {
        Self::with(false, |config| config, Limits::default())
    }

    fn with(
        verify_clients: bool,
        change: impl FnOnce(TlsConfig) -> TlsConfig,
        limits: Limits,
    ) -> Self {
        let authority = Authority::new();
        let Identity { certificate, key } = authority.sign("localhost");
        let ca = authority.pem();
        let ca = verify_clients.then_some(ca.as_bytes());
        let config = TlsConfig::from_pem(certificate.as_bytes(), key.as_bytes(), ca);
        let config = change(config.expect("good certificates"));
        let disk = TestDisk::with(Traits {
            sector_count: 65536,
            ..Traits::default()
        });
        let server = Running::new([export("disk", disk.disk())], limits);
        server.handle.set_tls(Some(config));
        Self {
            server,
            authority,
            disk,
        }
    }

    /// A client that has come as far as the server's acknowledgement of `STARTTLS`.
    fn acknowledged(&self) -> Client {
        let mut client = self.server.greeted();
        assert_eq!(client.ask_kind(OPT_STARTTLS, b""), REP_ACK);
        client
    }

    /// A client inside TLS that may send options.
    fn inside(&self) -> Client {
        self.inside_as(None, &TLS13)
    }

    fn inside_as(
        &self,
        identity: Option<&Identity>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Client {
        let stream = self.acknowledged().into_stream();
        Client::new(wrap(stream, self.authority.client(identity, version)))
    }

    fn expect_serving(&self) {
        let mut client = self.inside();
        client.go("disk", Style::Structured);
        assert_eq!(client.read(MIB as u64, 9), [0; 9]);
        client.disconnect();
    }
}

#[test]
fn everything_works_inside() {
    let secure = Secure::new();
    let content = pattern(5 * MIB, 3);
    for version in [&TLS12, &TLS13] {
        for style in STYLES {
            let mut client = secure.inside_as(None, version);
            client.go("disk", style);
            client.write(77, &content);
            for start in [0, 100, MIB] {
                let len = content.len() - start;
                let read = client.read(77 + start as u64, len as u32);
                assert!(read == content[start..]);
            }
            client.disconnect();
        }
    }
}

#[test]
fn many_requests_are_in_flight_and_answered_out_of_order_inside() {
    let secure = Secure::new();
    let content = pattern(MIB, 4);
    secure.disk.set_content(0, &content);
    let mut client = secure.inside();
    client.go("disk", Style::Structured);
    secure.disk.plan(|op| match op.sector {
        0 => common::disk::Plan::Hold,
        _ => common::disk::Plan::Yield,
    });
    let held = client.send_request(READ, 0, 0, 512, &[]);
    secure.disk.wait_for_held(1);
    for i in 1..100_u64 {
        client.send_request(READ, 0, i * 512, 9000, &[]);
    }
    for _ in 1..100 {
        let answer = client.answer();
        assert_eq!(answer.errno, 0);
        assert_ne!(answer.cookie, held);
        assert_eq!(answer.data.len(), 9000);
    }
    secure.disk.release_all();
    let last = client.answer();
    assert_eq!(last.cookie, held);
    assert!(last.data == content[..512]);
}

#[test]
fn a_required_tls_lets_no_other_option_pass() {
    let secure = Secure::new();
    let mut client = secure.server.greeted();
    let go = info_request("disk", &[]);
    for (code, data) in [
        (OPT_LIST, &b""[..]),
        (OPT_STRUCTURED_REPLY, b""),
        (OPT_EXTENDED_HEADERS, b""),
        (OPT_SET_META_CONTEXT, b"whatever"),
        (OPT_INFO, &go),
        (OPT_GO, &go),
        (99, b"x"),
        (99, &[0; 70_000]),
    ] {
        assert_eq!(client.ask_kind(code, data), REP_ERR_TLS_REQD, "{code}");
    }
    assert_eq!(client.ask_kind(OPT_STARTTLS, b"x"), REP_ERR_INVALID);
    assert_eq!(client.ask_kind(OPT_ABORT, b""), REP_ACK);
    client.expect_closed();
    let mut client = secure.server.greeted();
    client.send(&option(OPT_EXPORT_NAME, b"disk"));
    client.expect_closed();
    secure.expect_serving();
}

#[test]
fn an_optional_tls_serves_both_kinds_of_clients() {
    let secure = Secure::with(false, TlsConfig::optional, Limits::default());
    let mut clear = secure.server.client(Style::Structured);
    clear.write(0, b"clear");
    let mut inside = secure.inside();
    inside.go("disk", Style::Extended);
    assert_eq!(inside.read(0, 5), b"clear");
}

#[test]
fn what_was_agreed_on_in_the_clear_is_forgotten() {
    let secure = Secure::with(false, TlsConfig::optional, Limits::default());
    let mut client = secure.server.greeted();
    client.negotiate_structured();
    let chosen = contexts("disk", &["base:allocation"]);
    assert_eq!(client.ask(OPT_SET_META_CONTEXT, &chosen).len(), 2);
    assert_eq!(client.ask_kind(OPT_STARTTLS, b""), REP_ACK);
    let config = secure.authority.client(None, &TLS13);
    let mut client = Client::new(wrap(client.into_stream(), config));
    let refused = client.ask_kind(OPT_SET_META_CONTEXT, &chosen);
    assert_eq!(refused, REP_ERR_INVALID, "there are no structured replies");
    // The client accepts nothing but simple replies.
    client.go("disk", Style::Simple);
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn tls_begins_once_and_only_where_there_is_a_certificate() {
    let secure = Secure::new();
    let mut client = secure.inside();
    assert_eq!(client.ask_kind(OPT_STARTTLS, b""), REP_ERR_INVALID);
    secure.server.handle.set_tls(None);
    let mut without = secure.server.greeted();
    assert_eq!(without.ask_kind(OPT_STARTTLS, b""), REP_ERR_UNSUP);
    client.go("disk", Style::Simple);
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn clients_need_a_certificate_of_the_authority_if_they_are_verified() {
    let secure = Secure::with(true, |config| config, Limits::default());
    let known = secure.authority.sign("vm7");
    let stranger = Authority::new().sign("vm7");
    for version in [&TLS12, &TLS13] {
        for identity in [None, Some(&stranger)] {
            let mut client = secure.inside_as(identity, version);
            // It may believe that it is in before the server has seen its certificate.
            client.try_send(&option(OPT_LIST, b""));
            client.expect_closed();
        }
        let mut client = secure.inside_as(Some(&known), version);
        client.go("disk", Style::Structured);
        assert_eq!(client.read(0, 512), [0; 512]);
    }
}

#[test]
fn noise_instead_of_tls_harms_nobody() {
    let secure = Secure::new();
    for mut random in rounds(2) {
        for round in 0..30 {
            let numbers = &mut random.numbers;
            let mut noise = pattern(numbers.usize(1..20_000), numbers.u64(..));
            if round % 2 == 0 {
                // The head of a record of a handshake, so that it is looked at.
                noise.splice(..noise.len().min(3), [22, 3, 1]);
            }
            let mut client = secure.acknowledged();
            client.try_send(&noise);
            client.finish_sending();
            client.drain();
        }
    }
    // An option that was slipped in before TLS begins is no option.
    let mut client = secure.server.greeted();
    let list = option(OPT_LIST, b"");
    client.send(&[option(OPT_STARTTLS, b""), list].concat());
    assert_eq!(client.option_reply(OPT_STARTTLS).kind, REP_ACK);
    client.finish_sending();
    let rest = client.drain();
    assert!(
        !rest
            .windows(8)
            .any(|window| window == 0x3_e889_0455_65a9_u64.to_be_bytes())
    );
    secure.expect_serving();
}

#[test]
fn noise_inside_ends_the_connection_and_no_other() {
    let secure = Secure::new();
    let mut other = secure.inside();
    other.go("disk", Style::Simple);
    let stream = secure.acknowledged().into_stream();
    let raw = stream.try_clone().expect("a clone");
    let mut client = Client::new(wrap(stream, secure.authority.client(None, &TLS13)));
    client.go("disk", Style::Structured);
    client.write(0, &[1; 512]);
    let mut raw = Client::new(raw);
    raw.try_send(&pattern(300, 9));
    client.expect_closed();
    assert_eq!(other.read(0, 512), [1; 512]);
}

#[test]
fn a_stop_does_not_wait_for_a_handshake_that_does_not_go_on() {
    let secure = Secure::new();
    let silent = secure.acknowledged();
    let mut half = secure.acknowledged();
    half.send(&[22, 3, 1, 2, 0, 1]);
    let mut inside = secure.inside();
    inside.go("disk", Style::Structured);
    inside.write(0, &[5; 512]);
    secure.server.stop().expect("a good end");
    inside.expect_closed();
    drop((silent, half));
    assert!(secure.disk.count_of(Kind::Flush) > 0);
}

#[test]
fn a_stop_answers_what_is_in_flight_inside() {
    let secure = Secure::new();
    let mut client = secure.inside();
    client.go("disk", Style::Structured);
    secure.disk.hold_all(Kind::Write);
    client.send_request(WRITE, 0, 0, 512, &[6; 512]);
    secure.disk.wait_for_held(1);
    secure.server.handle.stop();
    secure.disk.release_all();
    assert_eq!(client.answer().errno, 0);
    client.expect_closed();
    secure.server.wait_for_end().expect("a good end");
    assert!(secure.disk.content()[..512] == [6; 512]);
}

#[test]
fn a_client_inside_that_stops_reading_holds_up_only_itself() {
    let mut limits = Limits::default();
    limits.stop_grace = Duration::from_millis(100);
    let secure = Secure::with(false, |config| config, limits);
    let mut slow = secure.inside();
    slow.go("disk", Style::Structured);
    for i in 0..24 {
        slow.send_request(READ, 0, i << 20, MIB as u32, &[]);
    }
    slow.receive::<16>();
    let mut quick = secure.inside();
    quick.go("disk", Style::Structured);
    for i in 0..50 {
        assert_eq!(quick.read(i * 512, 512), [0; 512]);
    }
    assert!(secure.disk.bytes_in_flight_max() <= 2 * Limits::default().bytes_in_flight_max);
    secure.server.stop().expect("a good end");
}
