//! What the daemon costs: nothing while nobody asks, and a bounded amount of memory whatever they ask.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use crate::support::client::{self, command};
use crate::support::daemon::{STDOUT, log_file};
use crate::support::process::{activity, resident_bytes_max, wait_until_still};
use crate::support::{
    Client, Daemon, KIB, LOOK_INTERVAL, MIB, Random, TIME_MAX, assert_same_bytes,
};

/// Long enough that whatever is done every second, or more often, shows.
const IDLE_WINDOW: Duration = Duration::from_millis(2500);

/// How long a busy server does nothing when there is nothing left that it could do.
const STUCK_WINDOW: Duration = Duration::from_millis(300);

/// Beyond the data stored.
const MEMORY_BYTES_MAX: u64 = 256 * MIB;

#[test]
fn an_idle_daemon_never_runs() {
    let daemon = Daemon::serve(["--layer", "ram:16M"]);
    // Once with nobody there, once with a client that was served and now says nothing.
    wait_until_still(daemon.pid(), IDLE_WINDOW);
    let mut client = daemon.client();
    client.write(12345, b"something");
    assert_same_bytes(&client.read(12345, 9), b"something");
    wait_until_still(daemon.pid(), IDLE_WINDOW);
    // Plant what must be found: the measure sees a single request.
    let before = activity(daemon.pid());
    client.read(0, 512);
    assert_ne!(activity(daemon.pid()), before, "the measure is blind");
    client.disconnect();
    daemon.stop();
}

#[test]
fn sixty_four_clients_that_read_no_replies_stay_within_the_memory_bound() {
    const CLIENT_COUNT: usize = 64;
    const REQUEST_COUNT: u64 = 32;
    const LEN: u32 = 64 * KIB as u32;
    const DISK: u64 = 64 * MIB;
    let daemon = Daemon::serve(["--layer", "ram:64M"]);
    let data = Random::new(40).bytes(DISK);
    let mut filler = daemon.client();
    for (index, chunk) in data.chunks(MIB as usize).enumerate() {
        filler.write(index as u64 * MIB, chunk);
    }
    let mut random = Random::new(41);
    let mut clients: Vec<_> = (0..CLIENT_COUNT)
        .map(|_| {
            let mut client = daemon.client();
            let offsets: Vec<_> = (0..REQUEST_COUNT)
                .map(|_| random.below(DISK - u64::from(LEN)))
                .collect();
            let first = offsets
                .iter()
                .map(|offset| client.send(command::READ, *offset, LEN, &[]))
                .min();
            (client, offsets, first.expect("there are requests"))
        })
        .collect();
    wait_until_still(daemon.pid(), STUCK_WINDOW);
    // Nobody listens, and yet another client is served.
    assert_same_bytes(
        &filler.read(MIB, LEN),
        &data[MIB as usize..][..LEN as usize],
    );
    for (client, offsets, first) in &mut clients {
        for _ in 0..REQUEST_COUNT {
            let (cookie, error) = client.hear_head();
            assert_eq!(error, 0);
            let offset = offsets[(cookie - *first) as usize] as usize;
            assert_same_bytes(&client.hear_data(LEN), &data[offset..offset + LEN as usize]);
        }
    }
    assert_within_memory_bound(&daemon, DISK);
    daemon.stop();
}

#[test]
fn sixty_four_clients_with_unfinished_writes_stay_within_the_memory_bound() {
    const LEN: u32 = 64 * KIB as u32;
    const DISK: u64 = 64 * MIB;
    let daemon = Daemon::serve(["--layer", "ram:64M"]);
    let data = Random::new(42).bytes(DISK);
    // Each has 32 writes to its own MiB twice over, and keeps back the very last byte.
    let mut clients: Vec<_> = (0..64u64)
        .map(|index| {
            let mut client = daemon.client();
            for request in 0..32u64 {
                let offset = index * MIB + (request % 16) * u64::from(LEN);
                let payload = &data[offset as usize..][..LEN as usize];
                let kept_back = usize::from(request == 31);
                client.send(
                    command::WRITE,
                    offset,
                    LEN,
                    &payload[..payload.len() - kept_back],
                );
            }
            client
        })
        .collect();
    wait_until_still(daemon.pid(), STUCK_WINDOW);
    for (index, client) in clients.iter_mut().enumerate() {
        client
            .stream
            .write_all(&[data[(index + 1) * MIB as usize - 1]])
            .unwrap();
        for _ in 0..32 {
            assert_eq!(client.hear_head().1, 0);
        }
        assert_same_bytes(
            &client.read(index as u64 * MIB, MIB as u32),
            &data[index * MIB as usize..][..MIB as usize],
        );
    }
    assert_within_memory_bound(&daemon, DISK);
    daemon.stop();
}

#[test]
fn a_client_that_sends_for_ever_and_reads_nothing_is_stopped_and_holds_up_only_itself() {
    const REQUEST_COUNT_MAX: u64 = 1_000_000;
    let daemon = Daemon::serve(["--layer", "ram:16M"]);
    let mut rude = daemon.client();
    rude.stream.set_nonblocking(true).unwrap();
    let head = client::request(command::READ, 0, 1, 0, 64 * KIB as u32);
    let mut sent_count = 0;
    let mut last_progress = Instant::now();
    // Until nothing was taken for as long as a server that could go on would never wait.
    while last_progress.elapsed() < STUCK_WINDOW {
        match rude.stream.write(&head) {
            Ok(_) => (sent_count, last_progress) = (sent_count + 1, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(LOOK_INTERVAL)
            }
            Err(error) => panic!("the server closed the connection: {error}"),
        }
        assert!(
            sent_count < REQUEST_COUNT_MAX,
            "the server takes requests without bound"
        );
    }
    wait_until_still(daemon.pid(), STUCK_WINDOW);
    serves(&mut daemon.client());
    assert_within_memory_bound(&daemon, 16 * MIB);
    drop(rude);
    daemon.stop();
}

#[test]
fn connections_that_say_nothing_do_not_keep_others_out() {
    let daemon = Daemon::serve(["--layer", "ram:16M"]);
    let silent: Vec<_> = (0..64).map(|_| daemon.connect()).collect();
    serves(&mut daemon.client());
    drop(silent);
    daemon.stop();
}

#[test]
fn a_flood_of_connections_is_bounded_and_ends_with_its_clients() {
    let mut daemon = Daemon::serve(["--layer", "ram:16M"]);
    // Below the limit on open files that most systems give a test.
    let flood: Vec<_> = (0..900).map(|_| daemon.connect()).collect();
    assert_within_memory_bound(&daemon, 16 * MIB);
    drop(flood);
    let begun = Instant::now();
    daemon.wait_until(|daemon| {
        assert!(begun.elapsed() < TIME_MAX, "no longer serves");
        Client::open(daemon.connect(), "").is_ok()
    });
    serves(&mut daemon.client());
    daemon.stop();
}

#[test]
fn more_clients_than_the_usual_limit_on_open_files_find_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    let line = "ulimit -S -n 64 && exec \"$0\" serve --layer ram:1M --listen unix:nbd.sock";
    command
        .args(["-c", line, env!("CARGO_BIN_EXE_platter")])
        .current_dir(folder.path());
    let stdout = log_file(&folder, STDOUT);
    let daemon = Daemon::start(folder, command, stdout, "nbd.sock");
    let mut clients: Vec<_> = (0..100).map(|_| daemon.client()).collect();
    for client in &mut clients {
        assert_same_bytes(&client.read(0, 512), &[0; 512]);
    }
    drop(clients);
    daemon.stop();
}

#[track_caller]
fn serves(client: &mut Client) {
    let data = Random::new(43).bytes(8 * KIB);
    client.write(MIB + 1, &data);
    assert_same_bytes(&client.read(MIB + 1, 8 * KIB as u32), &data);
}

#[track_caller]
fn assert_within_memory_bound(daemon: &Daemon, stored_bytes: u64) {
    let most = resident_bytes_max(daemon.pid());
    let beyond = most.saturating_sub(stored_bytes);
    println!(
        "at most {} MiB resident, {} MiB beyond the data",
        most / MIB,
        beyond / MIB
    );
    assert!(
        beyond < MEMORY_BYTES_MAX,
        "{} MiB beyond the {} MiB stored",
        beyond / MIB,
        stored_bytes / MIB
    );
}
