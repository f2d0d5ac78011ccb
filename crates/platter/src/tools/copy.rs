//! `platter copy`: makes a disk's content another's.

use super::open::find;
use super::watching::{Watching, failed};
use crate::cli::CopyArgs;
use crate::connect::Bytes;
use crate::exit::Failure;
use crate::output;
use crate::transfer::{Comparison, Copied, Copy, Effort, Side, Tail, View};
use disk_backend::{Disk, Persistence};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Instant;

/// Copies.
pub(crate) fn run(args: &CopyArgs) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    let resolver = disk_resolver::resolver();
    let from = find(&args.source, &resolver, None)?;
    // Opened first, so that nothing is made for a source that is not there.
    let source = from.open(true)?;
    let size_bytes = size_bytes(&source);
    let to = find(&args.destination, &resolver, Some(size_bytes))?;
    let names = [&*from.name, &*to.name];
    if from.shares_with(&to) {
        return Err(Failure::configuration(format!(
            "{} would be copied onto itself: what {} writes is a part of it",
            names[0], names[1]
        )));
    }
    let destination = to.open(false)?;
    check_destination(&destination, size_bytes, names[1])?;
    let watching = Watching::start(args.quiet)?;
    let copy = Copy {
        source: &source,
        destination: &destination,
        is_blank: !args.force,
        tail: match args.keep_tail {
            true => Tail::Keep,
            false => Tail::Zero,
        },
    };
    if !args.force {
        refuse_content(&copy, names[1], args.effort.effort(), &watching)?;
    }
    watching.begin("copying", copy.end());
    let copied = block_on(copy.run(args.effort.effort(), &watching));
    watching.end();
    let summary = Summary {
        names,
        size_bytes,
        tail_bytes: self::size_bytes(&destination).saturating_sub(size_bytes),
        tail: copy.tail,
        copied: copied.map_err(|fault| failed(&fault, names))?,
        duration_ms: begun.elapsed().as_millis() as u64,
    };
    match (args.json, args.quiet) {
        (true, _) => output::print(&format!("{:#}\n", summary.json()))?,
        (false, false) => output::print(&summary.text())?,
        (false, true) => {}
    }
    match summary.copied.is_complete {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(watching.exit_code().unwrap_or(ExitCode::FAILURE)),
    }
}

fn size_bytes(disk: &Disk) -> u64 {
    View::new(disk, Side::First).size_bytes()
}

fn check_destination(disk: &Disk, wanted_bytes: u64, name: &str) -> Result<(), Failure> {
    let size_bytes = size_bytes(disk);
    if disk.is_read_only() {
        return Err(Failure::configuration(format!(
            "{name}: the destination is read-only"
        )));
    }
    if size_bytes < wanted_bytes {
        return Err(Failure::configuration(format!(
            "{name}: the destination is too small: it has {size_bytes} bytes, and the source has {wanted_bytes}"
        )));
    }
    if disk.persistence() == Persistence::Volatile {
        tracing::warn!("{name} keeps nothing: what is copied to it is gone when the command ends");
    }
    Ok(())
}

/// A destination that holds anything where the copy goes is not overwritten without being asked to.
fn refuse_content(
    copy: &Copy<'_>,
    name: &str,
    effort: Effort,
    watching: &Watching,
) -> Result<(), Failure> {
    let content = Comparison {
        first: copy.destination,
        second: None,
        end: copy.end(),
        only_first: true,
    };
    watching.begin("looking at the destination", content.end);
    let found = block_on(content.run(effort, watching));
    watching.end();
    match found
        .map_err(|fault| failed(&fault, [name, ""]))?
        .first_offset
    {
        None => Ok(()),
        Some(offset) => Err(Failure::running(format!(
            "{name} is not empty: there is data at offset {offset}; with --force it is overwritten, as far as it differs"
        ))),
    }
}

/// What was done.
struct Summary<'a> {
    names: [&'a str; 2],
    size_bytes: u64,
    /// How much longer the destination is.
    tail_bytes: u64,
    tail: Tail,
    copied: Copied,
    duration_ms: u64,
}

impl Summary<'_> {
    fn json(&self) -> Value {
        let tally = &self.copied.tally;
        json!({
            "source": self.names[0],
            "destination": self.names[1],
            "size_bytes": self.size_bytes,
            "complete": self.copied.is_complete,
            "covered_bytes": tally.covered_bytes(),
            "source_read_bytes": tally.source_read_bytes,
            "destination_read_bytes": tally.destination_read_bytes,
            "compared_bytes": tally.compared_bytes,
            "written_bytes": tally.written_bytes,
            "zeroed_bytes": tally.zeroed_bytes,
            "skipped_bytes": tally.skipped_bytes,
            "duration_ms": self.duration_ms,
        })
    }

    fn text(&self) -> String {
        let tally = &self.copied.tally;
        let how = match self.copied.is_complete {
            true => "copied",
            false => "interrupted: `platter copy --force` goes on from here; so far",
        };
        let mut text = format!(
            "{how}: read {}, compared {}, wrote {}, zeroed {}, skipped {}\n",
            Bytes(tally.source_read_bytes),
            Bytes(tally.compared_bytes),
            Bytes(tally.written_bytes),
            Bytes(tally.zeroed_bytes),
            Bytes(tally.skipped_bytes),
        );
        if self.tail_bytes > 0 && self.copied.is_complete {
            let tail = match self.tail {
                Tail::Zero => "reads zero",
                Tail::Keep => "was left as it is",
            };
            let longer = Bytes(self.tail_bytes);
            text +=
                &format!("the destination is {longer} longer than the source: that part {tail}\n");
        }
        text
    }
}
