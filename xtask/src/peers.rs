//! The real programs that tests and benchmarks run against: which there are, where they come from,
//! and how to get the missing ones.

use std::path::PathBuf;
use std::process::Command;

use crate::{Fallible, run};

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) tool: &'static str,
    pub(crate) package: &'static str,
}

/// Every peer of the interop tests, from the one list that they read too.
pub(crate) fn all() -> Vec<Peer> {
    parse(include_str!("../../crates/platter/tests/peers.txt"))
}

fn parse(list: &'static str) -> Vec<Peer> {
    list.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let (Some(tool), Some(package), None) = (words.next(), words.next(), words.next())
            else {
                panic!("peers.txt: a line is a tool and its package, not `{line}`");
            };
            Peer { tool, package }
        })
        .collect()
}

/// Those of `peers` that are not on this machine.
pub(crate) fn missing(peers: &[Peer]) -> Vec<Peer> {
    peers
        .iter()
        .copied()
        .filter(|peer| find(peer.tool).is_none())
        .collect()
}

/// Where a program lies. Looks in the system folders too, which an ordinary user's PATH leaves out.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file())
}

/// The line that installs `peers`, for whoever reads it to paste.
pub(crate) fn install_line(peers: &[Peer]) -> String {
    format!(
        "sudo apt-get install -y --no-install-recommends {}",
        packages(peers).join(" ")
    )
}

fn packages(peers: &[Peer]) -> Vec<&'static str> {
    let mut packages: Vec<_> = peers.iter().map(|peer| peer.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs whatever is missing. Where it may not (no root, no apt-get) it prints what to install and
/// returns `Ok`: what the absence means is the caller's decision.
pub(crate) fn install() -> Fallible {
    let missing = missing(&all());
    if missing.is_empty() {
        println!("every peer is installed");
        return Ok(());
    }
    let Some(apt) = apt_get() else {
        println!(
            "cannot install here; on Debian or Ubuntu run:\n  {}",
            install_line(&missing)
        );
        return Ok(());
    };
    run::run(apt().args(["update", "-q"]))?;
    run::run(
        apt()
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .args(packages(&missing)),
    )
}

/// Reads anew what packages there are. Where it may not, the old lists have to do.
pub(crate) fn update() -> Fallible {
    match apt_get() {
        Some(apt) => run::run(apt().args(["update", "-q"])),
        None => Ok(()),
    }
}

/// How to call apt-get here, if it can be called without asking anybody anything. A robot may use
/// sudo; a person's password is theirs to type.
fn apt_get() -> Option<fn() -> Command> {
    find("apt-get")?;
    if rustix::process::geteuid().is_root() {
        return Some(|| {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        });
    }
    let sudo: fn() -> Command = || {
        let mut command = Command::new("sudo");
        command.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    let may = is_ci() && run::output(Command::new("sudo").args(["-n", "true"])).is_ok();
    may.then_some(sudo)
}

/// Whether nobody is watching, so that whatever is missing must be a failure.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_each_tool_once() {
        let mut tools: Vec<_> = all().iter().map(|peer| peer.tool).collect();
        let count = tools.len();
        tools.sort_unstable();
        tools.dedup();
        assert!(count > 5 && tools.len() == count, "{tools:?}");
    }

    #[test]
    fn comments_and_blank_lines_are_no_peers() {
        let peers = parse("# a comment\n\nfio   fio\n");
        assert_eq!(
            peers,
            [Peer {
                tool: "fio",
                package: "fio"
            }]
        );
    }

    #[test]
    fn a_missing_tool_is_told_from_a_present_one() {
        let sh = Peer {
            tool: "sh",
            package: "dash",
        };
        let absent = Peer {
            tool: "no-such-tool-here",
            package: "nothing",
        };
        assert_eq!(missing(&[sh, absent]), [absent]);
    }

    #[test]
    fn the_line_to_paste_names_each_package_once() {
        let peers = parse("nbdinfo libnbd-bin\nnbdcopy libnbd-bin\nfio fio\n");
        assert!(
            install_line(&peers).ends_with(" fio libnbd-bin"),
            "{}",
            install_line(&peers)
        );
    }
}
