//! `platter layer check`: how a layer was left, and whether something of it is damaged.

use super::{Store, failed};
use crate::cli::LayerCheckArgs;
use crate::connect::Bytes;
use crate::exit::{DAMAGED, Failure, NOT_CLOSED, chain};
use crate::output;
use crate::tools::watching::Watching;
use disklayer_durable::{CheckReport, Condition, Damage, OpenError, Verify, check, repair_with};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::fmt::Write as _;
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
    is_repaired: bool,
}

/// Checks, and repairs if that is asked for.
pub(super) fn run(args: &LayerCheckArgs) -> Result<ExitCode, Failure> {
    let watching = Watching::start(args.answer.quiet)?;
    let Some(mut outcome) = look(args, &watching)? else {
        return Ok(watching.exit_code().unwrap_or(ExitCode::FAILURE));
    };
    let lacks_sums = outcome.verify == Verify::Data
        && outcome
            .report
            .as_ref()
            .is_some_and(|report| report.unverified_sectors > 0);
    let is_to_mend =
        (outcome.condition != Condition::Clean || lacks_sums) && outcome.beyond.is_none();
    if args.repair && is_to_mend {
        let store = Store::open(&args.store.store, false)?;
        watching.begin_steps("repairing");
        let step = |done, all| watching.step(done, all);
        let repaired = block_on(repair_with(store.disk.clone(), step));
        watching.end();
        match repaired {
            Err(OpenError::Stopped) => {
                return Ok(watching.exit_code().unwrap_or(ExitCode::FAILURE));
            }
            repaired => repaired.map_err(|error| failed(&store.name, &error))?,
        }
        block_on(store.disk.close())
            .map_err(|error| failed(&store.name, &OpenError::Store(error)))?;
        drop(store);
        match look(args, &watching)? {
            Some(after) => outcome = after,
            None => return Ok(watching.exit_code().unwrap_or(ExitCode::FAILURE)),
        }
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
        is_repaired: false,
    };
    match checked {
        Ok(report) => {
            outcome.condition = report.condition;
            outcome.report = Some(report);
        }
        Err(OpenError::Stopped) => return Ok(None),
        // Not a layer, or not ours to judge.
        Err(
            error @ (OpenError::NotALayer
            | OpenError::Newer(_)
            | OpenError::SectorSize { .. }
            | OpenError::Store(_)),
        ) => return Err(failed(&store.name, &error)),
        Err(error) => outcome.beyond = Some(chain(&error)),
    }
    Ok(Some(outcome))
}

impl Outcome {
    fn bytes(&self, sectors: u64) -> u64 {
        sectors.saturating_mul(self.sector_size)
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
        let repaired = if self.is_repaired {
            "repaired, and "
        } else {
            ""
        };
        let mut text = match self.condition {
            Condition::Clean => format!("{name}: {repaired}clean\n"),
            Condition::Crashed => format!(
                "{name}: not closed: it is in use, or was when its program ended; nothing of it is damaged, and it can be used as it is\n"
            ),
            Condition::Damaged => format!("{name}: {repaired}damaged\n"),
        };
        let mut line = |what: &str| {
            writeln!(text, "  {what}").expect("writing to a string succeeds");
        };
        if let Some(beyond) = &self.beyond {
            line(beyond);
            line("what it holds cannot be had; make a new one with `platter layer create --force`");
        }
        let Some(report) = &self.report else {
            return text;
        };
        for damage in &report.damage {
            let costs = damage.sectors.map(|(first, count)| {
                let (offset, len) = (self.bytes(first), Bytes(self.bytes(count)));
                format!("; {len} of the layer from offset {offset} cannot be read")
            });
            let (at, what) = (damage.offset, &damage.what);
            line(&format!("at {at}: {what}{}", costs.unwrap_or_default()));
        }
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
            if report.unverified_sectors > 0 && !was_to_repair {
                line("--repair takes on record the checksums of what is there");
            }
        }
        text
    }
}
