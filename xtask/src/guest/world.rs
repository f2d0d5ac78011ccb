//! What all rounds share: the programs, the seed, and a folder for the disk, the sockets and the logs.

use std::path::{Path, PathBuf};

use super::disk::{DOCUMENT, READ_DOCUMENT};
use super::kit::Kit;
use super::ledger::{Found, Ledger};
use super::look;
use super::machine::{Machine, Parts, Start};
use super::said::Said;
use super::trouble::{Step, Trouble};
use crate::Fallible;
use crate::soak::daemon::Daemon;
use crate::soak::random::Random;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) platter: PathBuf,
    pub(crate) kit: Kit,
    pub(crate) initramfs: PathBuf,
    /// A guest that has booted.
    pub(crate) saved: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
}

/// What rounds have done, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// How often the power was cut, the daemon was started anew, or an image was looked at.
    pub(crate) round_count: usize,
    /// How many files were owed then, all added up.
    pub(crate) file_count: usize,
}

impl World {
    pub(crate) fn daemon(&self) -> Fallible<Daemon> {
        let (daemon, _) = Daemon::start(&self.platter, &self.folder, DOCUMENT)?;
        Ok(daemon)
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            kit: &self.kit,
            initramfs: &self.initramfs,
            folder: &self.folder,
        }
    }

    /// Starts the guest, and waits until it works.
    pub(crate) fn machine(
        &self,
        tag: &str,
        reconnect_seconds: u64,
        random: &mut Random,
    ) -> Step<Machine> {
        let start = Start::GoOn {
            saved: &self.saved,
            reconnect_seconds,
        };
        let mut machine = Machine::start(self.parts(), start)?;
        // Before it goes on it hears nothing.
        match machine.hear()? {
            Some(Said::Ready) => machine.say(&format!(".{} {tag}", random.below(1 << 15)))?,
            other => return Err(not_up(&other)),
        }
        loop {
            match machine.hear()? {
                Some(Said::Ready) => {}
                Some(Said::Mounted) => return Ok(machine),
                Some(Said::Failed { what }) => return Err(found("the guest failed", &what)),
                other => return Err(not_up(&other)),
            }
        }
    }

    /// Lets the guest work until it has reported so many more files.
    pub(crate) fn work(&self, machine: &Machine, ledger: &mut Ledger, count: u64) -> Step {
        let mut left = count;
        while left > 0 {
            let said = machine.hear()?;
            let said = said.ok_or_else(|| found("the guest ended", "nobody asked it to"))?;
            note(ledger, &said)?;
            left -= u64::from(matches!(said, Said::Synced { .. }));
        }
        Ok(())
    }

    /// Ends the guest in order: it writes everything, and must have met no error.
    pub(crate) fn stop(&self, mut machine: Machine, ledger: &mut Ledger) -> Step {
        machine.say("stop")?;
        let mut is_unmounted = false;
        while let Some(said) = machine.hear()? {
            match said {
                Said::Unmounted => is_unmounted = true,
                said => note(ledger, &said)?,
            }
        }
        machine.wait()?;
        machine.check_kernel_log()?;
        match is_unmounted {
            true => Ok(()),
            false => Err(found("the guest ended", "it did not unmount its disk")),
        }
    }

    /// All files of the disk, which nobody serves now.
    pub(crate) fn files(&self) -> Step<Found> {
        look::files(&self.platter, &self.folder, READ_DOCUMENT)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Whatever becomes of daemon and disk, the guest never has a reason to fail.
pub(crate) fn note(ledger: &mut Ledger, said: &Said) -> Step {
    ledger.note(said);
    match said {
        Said::Failed { what } => Err(found("the guest failed", what)),
        _ => Ok(()),
    }
}

fn found(what: &str, how: &str) -> Trouble {
    Trouble::Found(format!("{what}: {how}"))
}

fn not_up(said: &Option<Said>) -> Trouble {
    Trouble::Broken(format!("the guest did not come up: it said {said:?}"))
}
