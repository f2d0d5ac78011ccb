//! Byte streams that no honest client sends. Each gets the protocol's error or a closed connection, and the
//! daemon goes on as if nothing had happened.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::support::client::{
    CLIENT_FLAGS, Client, OPTION_MAGIC, command, error, go_data, hear_greeting, hear_option_reply,
    option, option_reply, request, send_option,
};
use crate::support::process::resident_bytes_max;
use crate::support::{Daemon, MIB, Random, assert_same_bytes};

const SIZE: u64 = 16 * MIB;

/// A daemon whose disk holds known bytes.
struct Victim {
    daemon: Daemon,
    data: Vec<u8>,
}

impl Victim {
    fn new() -> Self {
        let daemon = Daemon::serve(["--layer", "ram:16M"]);
        let data = Random::new(50).bytes(MIB);
        daemon.client().write(0, &data);
        Self { daemon, data }
    }

    /// A connection after the greeting and the client's flags.
    fn negotiating(&self) -> UnixStream {
        let mut stream = self.daemon.connect();
        hear_greeting(&mut stream).unwrap();
        stream.write_all(&CLIENT_FLAGS.to_be_bytes()).unwrap();
        stream
    }

    /// The daemon has said what it held against the client, once, so that its log cannot be flooded.
    #[track_caller]
    fn assert_one_warning(&mut self, clue: &str) {
        self.daemon
            .wait_until(|daemon| daemon.log().contains(" WARN "));
        let log = self.daemon.log();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(
            warnings[0].contains(clue),
            "no `{clue}` in: {}",
            warnings[0]
        );
    }

    /// The daemon serves as before, has spent no memory to speak of, and ends well when asked.
    #[track_caller]
    fn assert_unharmed(self) {
        let mut client = self.daemon.client();
        assert_eq!(client.size_bytes, SIZE);
        assert_same_bytes(&client.read(0, MIB as u32), &self.data);
        client.write(SIZE - 5, b"after");
        assert_same_bytes(&client.read(SIZE - 5, 5), b"after");
        let resident = resident_bytes_max(self.daemon.pid());
        assert!(resident < 192 * MIB, "took {} MiB", resident / MIB);
        self.daemon.stop();
    }
}

/// Hears everything up to the end, which must come.
#[track_caller]
fn hear_end(stream: &mut UnixStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => rest,
        // Closed while something that it did not want to hear was on its way.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => rest,
        Err(error) => panic!("the connection is neither answered nor closed: {error}"),
    }
}

/// Sends what may be refused half way: the other side may be gone.
fn send_anyway(stream: &mut UnixStream, bytes: &[u8]) {
    if let Err(error) = stream.write_all(bytes) {
        let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(gone.contains(&error.kind()), "{error}");
    }
}

/// The option gets this error, and the handshake can go on.
#[track_caller]
fn is_refused(mut stream: UnixStream, option: u32, data: &[u8], expected: u32) {
    send_option(&mut stream, option, data).unwrap();
    let (kind, _) = hear_option_reply(&mut stream, option).unwrap();
    assert_eq!(kind, expected, "{kind:#x} is not {expected:#x}");
    send_option(&mut stream, option::GO, &go_data("")).unwrap();
    let mut client = Client::finish_go(stream).unwrap();
    assert_eq!(client.read(0, 1).len(), 1);
}

#[test]
fn a_web_browser_is_shown_the_door() {
    let mut victim = Victim::new();
    let mut stream = victim.daemon.connect();
    send_anyway(&mut stream, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear_end(&mut stream);
    victim.assert_one_warning("client flags");
    victim.assert_unharmed();
}

#[test]
fn unknown_client_flags_close_the_connection() {
    let victim = Victim::new();
    let mut stream = victim.daemon.connect();
    hear_greeting(&mut stream).unwrap();
    stream.write_all(&0xffff_ffff_u32.to_be_bytes()).unwrap();
    assert_eq!(hear_end(&mut stream), b"");
    victim.assert_unharmed();
}

#[test]
fn a_wrong_option_magic_closes_the_connection() {
    let mut victim = Victim::new();
    let mut stream = victim.negotiating();
    send_anyway(&mut stream, b"IHAVEOPX\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0");
    hear_end(&mut stream);
    victim.assert_one_warning("IHAVEOPT");
    victim.assert_unharmed();
}

#[test]
fn an_option_of_four_gibibytes_is_not_waited_for() {
    let victim = Victim::new();
    let mut stream = victim.negotiating();
    let head = [
        OPTION_MAGIC,
        &option::GO.to_be_bytes()[..],
        &u32::MAX.to_be_bytes(),
    ]
    .concat();
    stream.write_all(&head).unwrap();
    // As much as a server might swallow before it loses patience, and not the whole.
    for _ in 0..256 {
        send_anyway(&mut stream, &[0; 65536]);
    }
    stream.shutdown(Shutdown::Write).ok();
    hear_end(&mut stream);
    victim.assert_unharmed();
}

#[test]
fn an_unknown_option_is_unsupported_and_the_handshake_goes_on() {
    let victim = Victim::new();
    is_refused(
        victim.negotiating(),
        0x7777,
        b"whatever",
        option_reply::ERR_UNSUPPORTED,
    );
    victim.assert_unharmed();
}

#[test]
fn an_option_whose_inner_lengths_lie_is_invalid_and_the_handshake_goes_on() {
    let victim = Victim::new();
    let name_too_long = [&u32::MAX.to_be_bytes()[..], b"abc", &[0, 0]].concat();
    let too_many_infos = [&0u32.to_be_bytes()[..], &[0xff, 0xff], &[0, 3]].concat();
    let too_many_contexts = [&0u32.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat();
    for (option, data) in [
        (option::GO, &name_too_long[..]),
        (option::GO, &too_many_infos),
        (option::GO, &[]),
        (option::GO, &[0, 0, 0]),
        (option::LIST, b"unexpected"),
        (option::STRUCTURED_REPLY, b"unexpected"),
        (option::LIST_META_CONTEXT, &name_too_long),
        (option::LIST_META_CONTEXT, &too_many_contexts),
        (option::SET_META_CONTEXT, &too_many_contexts),
    ] {
        is_refused(
            victim.negotiating(),
            option,
            data,
            option_reply::ERR_INVALID,
        );
    }
    victim.assert_unharmed();
}

#[test]
fn an_unknown_export_is_refused_and_the_handshake_goes_on() {
    let victim = Victim::new();
    for name in ["nowhere", "../../etc/passwd", &"x".repeat(4096)] {
        is_refused(
            victim.negotiating(),
            option::GO,
            &go_data(name),
            option_reply::ERR_UNKNOWN,
        );
    }
    let mut stream = victim.negotiating();
    send_option(&mut stream, option::EXPORT_NAME, b"nowhere").unwrap();
    assert_eq!(
        hear_end(&mut stream),
        b"",
        "EXPORT_NAME has no way to say no but the end"
    );
    victim.assert_unharmed();
}

#[test]
fn endless_options_are_bounded() {
    let victim = Victim::new();
    let mut stream = victim.negotiating();
    let one = [
        OPTION_MAGIC,
        &0x7777_u32.to_be_bytes()[..],
        &0u32.to_be_bytes(),
    ]
    .concat();
    let many = one.repeat(1000);
    // A client that asks for ever and listens to nothing: taken up to some bound, then left to wait or closed.
    stream.set_nonblocking(true).unwrap();
    let taken = (0..100)
        .take_while(|_| stream.write_all(&many).is_ok())
        .count();
    assert!(
        taken < 100,
        "{} options were taken while nobody heard the replies",
        taken * 1000
    );
    drop(stream);
    victim.assert_unharmed();
}

#[test]
fn a_wrong_request_magic_closes_the_connection() {
    let mut victim = Victim::new();
    let mut client = victim.daemon.client();
    send_anyway(&mut client.stream, &[0x42; 28]);
    assert_eq!(hear_end(&mut client.stream), b"");
    victim.assert_one_warning("0x42424242");
    victim.assert_unharmed();
}

#[test]
fn an_unknown_command_is_invalid_and_the_connection_goes_on() {
    let victim = Victim::new();
    let mut client = victim.daemon.client();
    for command in [8, 9, 0x7fff, 0xffff] {
        let answer = client.request(command, 0, 512, &[]);
        assert!(answer.is_err(), "command {command}: {answer:?}");
    }
    assert_same_bytes(&client.read(0, 512), &victim.data[..512]);
    victim.assert_unharmed();
}

#[test]
fn unknown_command_flags_are_invalid_and_the_connection_goes_on() {
    let victim = Victim::new();
    let mut client = victim.daemon.client();
    client
        .stream
        .write_all(&request(command::READ, 0x8000, 77, 0, 512))
        .unwrap();
    assert_eq!(client.hear_head(), (77, error::INVALID));
    assert_same_bytes(&client.read(0, 512), &victim.data[..512]);
    victim.assert_unharmed();
}

#[test]
fn block_status_that_was_not_negotiated_is_invalid() {
    let victim = Victim::new();
    let mut client = victim.daemon.client();
    assert_eq!(
        client.request(command::BLOCK_STATUS, 0, 512, &[]),
        Err(error::INVALID)
    );
    assert_same_bytes(&client.read(0, 512), &victim.data[..512]);
    victim.assert_unharmed();
}

#[test]
fn requests_beyond_the_end_are_refused_and_change_nothing() {
    let victim = Victim::new();
    let mut client = victim.daemon.client();
    for offset in [SIZE - 1, SIZE, SIZE + 1, u64::MAX - 1, u64::MAX] {
        for (command, payload) in [
            (command::READ, &[][..]),
            (command::WRITE, &[1; 512]),
            (command::TRIM, &[]),
            (command::WRITE_ZEROES, &[]),
        ] {
            let answer = client.request(command, offset, 512, payload);
            let expected = [error::INVALID, error::NO_SPACE];
            let number = answer.expect_err("it lies beyond the end");
            assert!(
                expected.contains(&number),
                "command {command} at {offset}: error {number}"
            );
        }
    }
    assert_same_bytes(&client.read(0, MIB as u32), &victim.data);
    assert_same_bytes(&client.read(SIZE - 512, 512), &[0; 512]);
    victim.assert_unharmed();
}

#[test]
fn a_read_of_four_gibibytes_is_refused() {
    let victim = Victim::new();
    let mut client = victim.daemon.client();
    let number = client
        .request(command::READ, 0, u32::MAX, &[])
        .expect_err("that is too much");
    assert!(
        [error::INVALID, error::OVERFLOW].contains(&number),
        "error {number}"
    );
    assert_same_bytes(&client.read(0, 512), &victim.data[..512]);
    victim.assert_unharmed();
}

#[test]
fn a_write_of_four_gibibytes_is_not_waited_for() {
    let victim = Victim::new();
    let mut client = victim.daemon.client();
    client
        .stream
        .write_all(&request(command::WRITE, 0, 1, 0, u32::MAX))
        .unwrap();
    for _ in 0..256 {
        send_anyway(&mut client.stream, &[0xee; 65536]);
    }
    client.stream.shutdown(Shutdown::Write).ok();
    hear_end(&mut client.stream);
    victim.assert_unharmed();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_anything_leaves_no_trace() {
    let victim = Victim::new();
    let write = request(command::WRITE, 0, 1, 0, 4096);
    let go = [OPTION_MAGIC, &option::GO.to_be_bytes()[..], &go_data("")].concat();
    for cut in 0..go.len() {
        let mut stream = victim.negotiating();
        stream.write_all(&go[..cut]).unwrap();
    }
    for cut in 1..write.len() {
        victim
            .daemon
            .client()
            .stream
            .write_all(&write[..cut])
            .unwrap();
    }
    // A write that was not sent whole has not happened.
    let mut client = victim.daemon.client();
    client.stream.write_all(&write).unwrap();
    client.stream.write_all(&[0xee; 4095]).unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear_end(&mut client.stream), b"");
    // One that was asked for and not heard is none of ours to lose.
    victim
        .daemon
        .client()
        .send(command::READ, 0, MIB as u32, &[]);
    victim.assert_unharmed();
}

#[test]
fn random_bytes_harm_nobody() {
    let victim = Victim::new();
    for seed in 0..200 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let len = random.below(300);
        let noise: Vec<u8> = (0..len).map(|_| random.number() as u8).collect();
        let mut stream = if seed % 2 == 0 {
            victim.negotiating()
        } else {
            // Valid heads keep the noise from ending at the first magic. No command that could change the disk.
            let mut client = victim.daemon.client();
            let [read, status] = [command::READ, command::BLOCK_STATUS];
            let command = if random.below(2) == 0 { read } else { status };
            let head = request(
                command,
                random.number() as u16,
                1,
                random.number(),
                random.number() as u32,
            );
            client.stream.write_all(&head).unwrap();
            client.stream
        };
        send_anyway(&mut stream, &noise);
        stream.shutdown(Shutdown::Write).ok();
        hear_end(&mut stream);
    }
    victim.assert_unharmed();
}

#[test]
fn a_client_that_falls_silent_half_way_holds_up_only_itself() {
    let victim = Victim::new();
    let mut in_handshake = victim.negotiating();
    in_handshake.write_all(&OPTION_MAGIC[..5]).unwrap();
    let mut in_request = victim.daemon.client();
    in_request
        .stream
        .write_all(&request(command::WRITE, 0, 1, 0, 4096)[..20])
        .unwrap();
    let mut in_payload = victim.daemon.client();
    in_payload.send(command::WRITE, 0, 4096, &[0xee; 100]);
    victim.assert_unharmed();
}
