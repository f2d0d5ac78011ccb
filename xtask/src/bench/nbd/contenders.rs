//! The servers that are compared, and how each is started at its best.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cases::DISK_BYTES;
use crate::peers::Peer;

/// A server that takes part.
pub(crate) struct Contender {
    /// The head of its column.
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    program: Program,
    /// What to start it with.
    arguments: fn(&Places) -> Vec<String>,
    /// Whether its disk is a file, which is then to be made.
    pub(crate) needs_image: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `platter serve`.
    Ours,
    /// The same frontend over nothing: shows where the client and the protocol are the limit.
    Limit,
    /// Somebody else's, with data.
    PeerWithData,
    /// Somebody else's, without.
    PeerWithoutData,
}

enum Program {
    /// Built here, into the folder of release builds.
    Own(&'static str),
    Installed(Peer),
}

/// Where things are for one server.
pub(crate) struct Places {
    /// Where our own programs are.
    pub(crate) programs: PathBuf,
    /// Where to listen.
    pub(crate) socket: PathBuf,
    /// The disk, for those whose disk is a file.
    pub(crate) image: PathBuf,
}

const NBDKIT: Peer = Peer {
    tool: "nbdkit",
    package: "nbdkit",
};
const QEMU_NBD: Peer = Peer {
    tool: "qemu-nbd",
    package: "qemu-utils",
};
const STORAGE_DAEMON: Peer = Peer {
    tool: "qemu-storage-daemon",
    package: "qemu-utils",
};

/// All of them, ours and the limit first.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender {
        name: "platter",
        role: Role::Ours,
        program: Program::Own("platter"),
        arguments: |places| {
            let listen = format!("unix:{}", places.socket.display());
            words(&["serve", "--layer", "ram:1G", "--listen", &listen])
        },
        needs_image: false,
    },
    Contender {
        name: "null server",
        role: Role::Limit,
        program: Program::Own("null_server"),
        arguments: |places| vec![text(&places.socket)],
        needs_image: false,
    },
    Contender {
        name: "nbdkit memory",
        role: Role::PeerWithData,
        program: Program::Installed(NBDKIT),
        arguments: |places| {
            let socket = text(&places.socket);
            words(&["--foreground", "--unix", &socket, "memory", "1G"])
        },
        needs_image: false,
    },
    Contender {
        name: "nbdkit file",
        role: Role::PeerWithData,
        program: Program::Installed(NBDKIT),
        arguments: |places| {
            let (socket, image) = (text(&places.socket), text(&places.image));
            words(&["--foreground", "--unix", &socket, "file", &image])
        },
        needs_image: true,
    },
    Contender {
        name: "qemu-nbd file",
        role: Role::PeerWithData,
        program: Program::Installed(QEMU_NBD),
        arguments: |places| {
            let (socket, image) = (text(&places.socket), text(&places.image));
            let mut words = words(&["--socket", &socket, "--shared=8", "--persistent"]);
            // See `BEST_AIO`; the cache is the page cache, as it is without an option.
            words.extend([format!("--aio={BEST_AIO}"), "--format=raw".into(), image]);
            words
        },
        needs_image: true,
    },
    Contender {
        name: "storage daemon, file",
        role: Role::PeerWithData,
        program: Program::Installed(STORAGE_DAEMON),
        arguments: |places| {
            let image = places.image.display();
            storage_daemon(places, &format!("file,filename={image},aio={BEST_AIO}"))
        },
        needs_image: true,
    },
    Contender {
        name: "storage daemon, null-co",
        role: Role::PeerWithoutData,
        program: Program::Installed(STORAGE_DAEMON),
        arguments: |places| {
            storage_daemon(
                places,
                &format!("null-co,size={DISK_BYTES},read-zeroes=off"),
            )
        },
        needs_image: false,
    },
];

/// How QEMU's programs are to do their I/O. A file in tmpfs never makes anybody wait, so handing requests to threads only costs. `native`
/// needs `O_DIRECT`: it is faster at depth 1, and slower everywhere else.
const BEST_AIO: &str = "io_uring";

fn storage_daemon(places: &Places, block_device: &str) -> Vec<String> {
    let socket = places.socket.display();
    words(&[
        "--blockdev",
        &format!("node-name=disk,driver={block_device}"),
        "--nbd-server",
        &format!("addr.type=unix,addr.path={socket},max-connections=8"),
        "--export",
        "type=nbd,id=export,node-name=disk,name=,writable=on",
    ])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Contender {
    pub(crate) fn is_peer(&self) -> bool {
        matches!(self.role, Role::PeerWithData | Role::PeerWithoutData)
    }

    /// The program that has to be installed for it.
    pub(crate) fn tool(&self) -> Option<Peer> {
        match self.program {
            Program::Own(_) => None,
            Program::Installed(peer) => Some(peer),
        }
    }

    /// The command that serves on the socket.
    pub(crate) fn command(&self, places: &Places) -> Command {
        let mut command = match self.program {
            Program::Own(name) => Command::new(places.programs.join(name)),
            Program::Installed(peer) => Command::new(peer.tool),
        };
        command.args((self.arguments)(places));
        command
    }
}

/// Ours, the limit, and the peers of which a name contains one of `wanted`; all if none is wanted.
pub(crate) fn choose(wanted: &[String]) -> Result<Vec<&'static Contender>, String> {
    let is_wanted = |contender: &&Contender| {
        let names = |part: &String| contender.name.contains(part.as_str());
        !contender.is_peer() || wanted.is_empty() || wanted.iter().any(names)
    };
    let chosen: Vec<_> = CONTENDERS.iter().filter(is_wanted).collect();
    if chosen.iter().any(|one| one.role == Role::PeerWithData) {
        return Ok(chosen);
    }
    let peers = CONTENDERS.iter().filter(|one| one.is_peer());
    let names: Vec<_> = peers.map(|one| one.name).collect();
    Err(format!(
        "choose a peer that stores data, with what is in its name; the peers are:\n  {}\n(null-co stores nothing)",
        names.join("\n  ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Result<Vec<&'static str>, String> {
        let chosen = choose(&words(wanted))?;
        Ok(chosen.iter().map(|one| one.name).collect())
    }

    #[test]
    fn ours_and_the_limit_always_take_part_and_come_first() {
        assert_eq!(names(&[]).unwrap().len(), CONTENDERS.len());
        assert_eq!(
            names(&["memory"]).unwrap(),
            ["platter", "null server", "nbdkit memory"]
        );
        assert_eq!(names(&["memory", "daemon"]).unwrap().len(), 5);
    }

    #[test]
    fn a_peer_that_stores_data_must_be_left() {
        for wanted in ["null-co", "nobody"] {
            assert!(names(&[wanted]).unwrap_err().contains("qemu-nbd file"));
        }
    }

    #[test]
    fn a_command_names_the_socket_and_the_image_where_there_is_one() {
        let places = Places {
            programs: "/release".into(),
            socket: "/s/socket".into(),
            image: "/shm/image".into(),
        };
        for contender in CONTENDERS {
            let line = crate::run::as_line(&contender.command(&places));
            assert!(line.contains("/s/socket"), "{line}");
            let has_image = line.contains("/shm/image");
            assert_eq!(has_image, contender.needs_image, "{line}");
        }
    }
}
