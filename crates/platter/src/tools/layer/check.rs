//! `platter layer check`: how a layer was left, and whether something of it is damaged.

use super::{Store, failed};
use crate::cli::LayerCheckArgs;
use crate::connect::Bytes;
use crate::exit::{DAMAGED, Failure, NOT_CLOSED, chain};
use crate::output;
use crate::tools::watching::Watching;
use disk_backend::DiskError;
use disklayer_durable::{
    CheckReport, Condition, Damage, Loss, OpenError, Verify, check, loss, repair_with, salvage,
};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::Range;
use std::process::ExitCode;

/// What is known after a check.
struct Outcome {
    name: String,
    sector_size: u64,
    verify: Verify,
    condition: Condition,
    /// None if so much is damaged that nothing more could be looked at.
    report: Option<CheckReport>,
    /// What is damaged then.
    beyond: Option<String>,
    /// What it costs to open it all the same, if that can be done; once it has been done, what it has cost.
    loss: Option<Loss>,
    /// What is known of it if it was not closed.
    not_closed: Option<&'static str>,
    /// Whether a repair had something to do, and did it.
    is_repaired: bool,
    /// Whether the loss was accepted, and is what it has cost.
    is_salvaged: bool,
}

/// So many ranges are named in a text.
const RANGES_MAX: usize = 16;

/// Checks, and repairs if that is asked for.
pub(super) fn run(args: &LayerCheckArgs) -> Result<ExitCode, Failure> {
    let watching = Watching::start(args.answer.quiet)?;
    let Some(mut outcome) = look(args, &watching)? else {
        return Ok(watching.exit_code().unwrap_or(ExitCode::FAILURE));
    };
    let stopped = || watching.exit_code().unwrap_or(ExitCode::FAILURE);
    if args.repair && outcome.is_to_mend(args.accept_loss) {
        // Not progress: it is said however little is to be said.
        if args.accept_loss {
            outcome.announce();
        }
        let store = Store::open(&args.store.store, false)?;
        let Some(lost) = mend(&store, &outcome, args.accept_loss, &watching)? else {
            return Ok(stopped());
        };
        drop(store);
        match look(args, &watching)? {
            Some(after) => outcome = after,
            None => return Ok(stopped()),
        }
        outcome.is_salvaged = lost.is_some();
        outcome.loss = lost.or(outcome.loss);
        outcome.is_repaired = true;
    }
    match (args.answer.json, args.answer.quiet) {
        (true, _) => output::print(&format!("{:#}\n", outcome.json()))?,
        (false, false) => output::print(&outcome.text(args.repair))?,
        (false, true) => {}
    }
    Ok(match outcome.condition {
        Condition::Clean => ExitCode::SUCCESS,
        Condition::Crashed => ExitCode::from(NOT_CLOSED),
        Condition::Damaged => ExitCode::from(DAMAGED),
    })
}

/// Repairs, and salvages if need be and the loss is accepted; what that costs then. None if it was stopped.
fn mend(
    store: &Store,
    outcome: &Outcome,
    accepts_loss: bool,
    watching: &Watching,
) -> Result<Option<Option<Loss>>, Failure> {
    let lost = if accepts_loss && outcome.is_to_salvage() {
        watching.begin_steps("salvaging");
        let salvaged = block_on(salvage(&store.disk, |done, all| watching.step(done, all)));
        watching.end();
        match salvaged {
            Err(OpenError::Stopped) => return Ok(None),
            salvaged => Some(salvaged.map_err(|error| failed(&store.name, &error))?),
        }
    } else {
        watching.begin_steps("repairing");
        let step = |done, all| watching.step(done, all);
        let repaired = block_on(repair_with(store.disk.clone(), step));
        watching.end();
        match repaired {
            Err(OpenError::Stopped) => return Ok(None),
            repaired => repaired.map_err(|error| failed(&store.name, &error))?,
        }
        None
    };
    block_on(store.disk.close()).map_err(|error| failed(&store.name, &OpenError::Store(error)))?;
    Ok(Some(lost))
}

/// Looks at all of it, and writes nothing. None if it was stopped.
fn look(args: &LayerCheckArgs, watching: &Watching) -> Result<Option<Outcome>, Failure> {
    let store = Store::open(&args.store.store, true)?;
    watching.begin_steps("checking");
    let checked = block_on(check(&store.disk, |done, all| watching.step(done, all)));
    watching.end();
    let mut outcome = Outcome {
        name: store.name.clone(),
        sector_size: store.disk.sector_size().into(),
        verify: store
            .info
            .as_ref()
            .map_or(Verify::Metadata, |info| info.verify),
        condition: Condition::Damaged,
        report: None,
        beyond: None,
        loss: None,
        not_closed: store
            .info
            .as_ref()
            .ok()
            .filter(|info| info.is_in_use)
            .map(|_| store.why_not_closed()),
        is_repaired: false,
        is_salvaged: false,
    };
    match checked {
        Ok(report) => {
            outcome.condition = report.condition;
            outcome.report = Some(report);
        }
        Err(OpenError::Stopped) => return Ok(None),
        // What the store has lost of the log.
        Err(OpenError::Store(error @ DiskError::MediumError(..))) => {
            outcome.beyond = Some(chain(&OpenError::Store(error)));
        }
        // Not a layer, or not ours to judge.
        Err(
            error @ (OpenError::NotALayer
            | OpenError::Newer(_)
            | OpenError::SectorSize { .. }
            | OpenError::Store(_)),
        ) => return Err(failed(&store.name, &error)),
        Err(error) => outcome.beyond = Some(chain(&error)),
    }
    if outcome.has_lost() {
        watching.begin_steps("looking for what is left");
        let found = block_on(loss(&store.disk, |done, all| watching.step(done, all)));
        watching.end();
        match found {
            Err(OpenError::Stopped) => return Ok(None),
            // Then there is nothing that could be done, and the check has said what is wrong.
            found => outcome.loss = found.ok(),
        }
    }
    Ok(Some(outcome))
}

impl Outcome {
    fn bytes(&self, sectors: u64) -> u64 {
        sectors.saturating_mul(self.sector_size)
    }

    /// Whether something of the log or of the pages is lost that no repair brings back.
    fn has_lost(&self) -> bool {
        let report = self.report.as_ref();
        let mut damage = report.into_iter().flat_map(|report| &report.damage);
        self.beyond.is_some() || damage.any(|damage| damage.sectors.is_some() && !damage.is_data)
    }

    /// Whether a salvage makes it one that can be used, and anything else does not.
    fn is_to_salvage(&self) -> bool {
        self.loss_of_salvage().is_some()
    }

    /// What that costs. Nothing may be lost, and it cannot be opened all the same: then some of the log that says nothing cannot be read.
    fn loss_of_salvage(&self) -> Option<&Loss> {
        let loss = self.loss.as_ref();
        loss.filter(|loss| !loss.is_none() || self.beyond.is_some())
    }

    /// Says what is about to be lost, while it can still be known: what a salvage that was cut has done is not named by the next one.
    fn announce(&self) {
        let Some(loss) = self.loss_of_salvage() else {
            return;
        };
        let lines = self.loss_lines(loss).join("\n  ");
        output::tell(&format!(
            "platter: {}: salvaging it, and then:\n  {lines}\n",
            self.name
        ));
    }

    /// Whether there is anything to do for a repair.
    fn is_to_mend(&self, accepts_loss: bool) -> bool {
        let report = self.report.as_ref();
        let lacks_sums = self.verify == Verify::Data
            && report.is_some_and(|report| report.unverified_sectors > 0);
        let mut damage = report.into_iter().flat_map(|report| &report.damage);
        // A copy of the superblock: what costs sectors is not brought back by a repair.
        let has_copy = damage.any(|damage| damage.sectors.is_none());
        let is_mendable = self.beyond.is_none();
        is_mendable && (self.not_closed.is_some() || lacks_sums || has_copy)
            || accepts_loss && self.is_to_salvage()
    }

    fn loss_json(&self, loss: &Loss) -> Value {
        let ranges = |ranges: &[Range<u64>]| -> Vec<Value> {
            let range = |range: &Range<u64>| {
                let (offset, length) =
                    (self.bytes(range.start), self.bytes(range.end - range.start));
                json!({ "offset": offset, "length": length })
            };
            ranges.iter().map(range).collect()
        };
        json!({
            "log_offset": loss.log_offset,
            "old": ranges(&loss.old),
            "guessed": ranges(&loss.guessed),
        })
    }

    /// What is lost, in words; one line for each thing.
    fn loss_lines(&self, loss: &Loss) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |what: &str, ranges: &[Range<u64>]| {
            if ranges.is_empty() {
                return;
            }
            lines.push(what.to_owned());
            for range in ranges.iter().take(RANGES_MAX) {
                let (offset, len) = (self.bytes(range.start), self.bytes(range.end - range.start));
                lines.push(format!("  {} from offset {offset}", Bytes(len)));
            }
            if ranges.len() > RANGES_MAX {
                let more = ranges.len() - RANGES_MAX;
                lines.push(format!("  and {more} more, which --json names"));
            }
        };
        add(
            "what was written there for the first time, or given up, may be forgotten though it was flushed:",
            &loss.old,
        );
        add(
            "of what is there nothing is known; it is taken for data where it is not zero:",
            &loss.guessed,
        );
        if lines.is_empty() {
            lines.push("no record is lost: later ones have all of it".to_owned());
        }
        lines
    }

    fn json(&self) -> Value {
        let report = self.report.as_ref();
        let bytes = |count: fn(&CheckReport) -> u64| report.map(|report| self.bytes(count(report)));
        let damage = report.map_or(&[][..], |report| &report.damage);
        let beyond = self.beyond.iter().map(|what| json!({ "what": what }));
        let damage = damage.iter().map(|one| self.damage(one)).chain(beyond);
        json!({
            "store": self.name,
            "condition": match self.condition {
                Condition::Clean => "clean",
                Condition::Crashed => "crashed",
                Condition::Damaged => "damaged",
            },
            "repaired": self.is_repaired,
            "loss": self.loss.as_ref().map(|loss| self.loss_json(loss)),
            "data_bytes": bytes(|report| report.data_sectors),
            "zero_bytes": bytes(|report| report.zero_sectors),
            "absent_bytes": bytes(|report| report.absent_sectors),
            "verified_bytes": bytes(|report| report.verified_sectors),
            "unverified_bytes": bytes(|report| report.unverified_sectors),
            "bad_bytes": bytes(|report| report.bad_sectors),
            "damage": damage.collect::<Vec<Value>>(),
        })
    }

    fn damage(&self, damage: &Damage) -> Value {
        let (first, count) = damage.sectors.unzip();
        json!({
            "what": damage.what,
            "store_offset": damage.offset,
            "lost_offset": first.map(|first| self.bytes(first)),
            "lost_bytes": count.map(|count| self.bytes(count)),
        })
    }

    fn text(&self, was_to_repair: bool) -> String {
        let name = &self.name;
        let how = match (self.condition, self.is_repaired) {
            (Condition::Clean, true) => "repaired, and clean".to_owned(),
            (Condition::Clean, false) => "clean".to_owned(),
            (Condition::Crashed, _) => format!(
                "not closed: {}; nothing of it is damaged, and it can be used as it is",
                self.not_closed.unwrap_or_default()
            ),
            (Condition::Damaged, true) => {
                "damaged; what can be repaired without loss was repaired".to_owned()
            }
            (Condition::Damaged, false) if was_to_repair => "damaged, and not repaired".to_owned(),
            (Condition::Damaged, false) => "damaged".to_owned(),
        };
        let mut text = format!("{name}: {how}\n");
        let mut line = |what: &str| {
            writeln!(text, "  {what}").expect("writing to a string succeeds");
        };
        if let Some(beyond) = &self.beyond {
            line(beyond);
        }
        for damage in self.report.iter().flat_map(|report| &report.damage) {
            let costs = damage.sectors.map(|(first, count)| {
                let (offset, len) = (self.bytes(first), Bytes(self.bytes(count)));
                format!("; {len} of the layer from offset {offset} cannot be read")
            });
            let (at, what) = (damage.offset, &damage.what);
            line(&format!("at {at}: {what}{}", costs.unwrap_or_default()));
        }
        if let Some(loss) = self.loss_of_salvage() {
            if !self.is_salvaged {
                line("--repair --accept-loss makes it one that can be used, and then:");
            }
            self.loss_lines(loss).iter().for_each(|what| line(what));
        }
        let Some(report) = &self.report else {
            return text;
        };
        let may_help = report.damage.iter().any(|one| one.sectors.is_none());
        if may_help && !was_to_repair {
            line("--repair writes a superblock anew");
        }
        let [data, zero, absent] = [
            report.data_sectors,
            report.zero_sectors,
            report.absent_sectors,
        ]
        .map(|sectors| Bytes(self.bytes(sectors)));
        line(&format!("{data} of data, {zero} of zeros, {absent} absent"));
        if self.verify == Verify::Data {
            let [right, unknown, bad] = [
                report.verified_sectors,
                report.unverified_sectors,
                report.bad_sectors,
            ]
            .map(|sectors| Bytes(self.bytes(sectors)));
            line(&format!(
                "of the data, {right} match their checksums, {bad} do not, and {unknown} have none on record"
            ));
            if report.bad_sectors > 0 {
                line(&format!(
                    "{bad} of data are lost, and no repair brings them back; what is written there anew is right again"
                ));
            }
            if report.unverified_sectors > 0 && (!was_to_repair || self.loss.is_some()) {
                line("--repair takes on record the checksums of what is there");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_opened_is_salvaged_also_where_nothing_is_lost() {
        let mut outcome = Outcome {
            name: "vm1.plt".to_owned(),
            sector_size: 512,
            verify: Verify::Metadata,
            condition: Condition::Damaged,
            report: None,
            beyond: Some("a block of the log cannot be read".to_owned()),
            loss: Some(Loss::default()),
            not_closed: None,
            is_repaired: false,
            is_salvaged: false,
        };
        assert!(outcome.is_to_mend(true));
        assert!(!outcome.is_to_mend(false));
        assert!(outcome.text(false).contains("--repair --accept-loss"));
        // Nor is anything done where there is nothing to do.
        outcome.beyond = None;
        outcome.condition = Condition::Clean;
        assert!(!outcome.is_to_mend(true));
    }
}
