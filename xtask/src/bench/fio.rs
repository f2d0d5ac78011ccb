//! One run of `fio`: with its NBD engine the client that servers are measured with, with others what disks are measured against.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::server::pin;
use crate::{Fallible, run, workspace};

/// What the client does to the server.
pub(crate) struct Load {
    /// As fio calls it: `randread`, `randwrite`, `read`, `write`.
    pub(crate) pattern: &'static str,
    pub(crate) block_size_bytes: u64,
    pub(crate) depth: u32,
    /// How many do it at once, each on a connection of its own.
    pub(crate) job_count: u32,
}

/// How much of it.
pub(crate) enum Extent {
    /// The whole disk, once.
    Once,
    /// For so many seconds, over the whole disk again and again.
    Seconds(u32),
}

/// What a client got done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    pub(crate) request_count: f64,
    pub(crate) requests_per_second: f64,
}

/// Runs the load from one processor. `scratch` is a folder for fio's files.
pub(crate) fn run_load(
    uri: &str,
    load: &Load,
    extent: &Extent,
    processor: usize,
    scratch: &Path,
) -> Fallible<Work> {
    run_load_with(uri, load, extent, processor, scratch, &[])
}

/// The same, with more of fio's options.
pub(crate) fn run_load_with(
    uri: &str,
    load: &Load,
    extent: &Extent,
    processor: usize,
    scratch: &Path,
    options: &[String],
) -> Fallible<Work> {
    let mut fio = command(load, extent, scratch);
    fio.args(["--ioengine=nbd", "--size=100%"]).args(options);
    fio.arg(format!("--uri={uri}"));
    report_of(pin(&fio, processor), scratch)
}

/// Runs the load on a file, by one of fio's engines, for so many seconds.
pub(crate) fn run_file_load(
    path: &Path,
    engine: &str,
    is_direct: bool,
    load: &Load,
    seconds: u32,
    scratch: &Path,
) -> Fallible<Work> {
    let mut fio = command(load, &Extent::Seconds(seconds), scratch);
    // Otherwise it begins with emptying the page cache, and keeps account of the places that it has been at.
    fio.args(["--invalidate=0", "--norandommap", "--randrepeat=0"]);
    // Nor does our side look at the clock for each request, or change what it writes.
    fio.args(["--gtod_reduce=1", "--scramble_buffers=0"]);
    fio.arg(format!("--ioengine={engine}"))
        .arg(format!("--direct={}", u8::from(is_direct)))
        .arg(format!("--filename={}", path.display()));
    report_of(fio, scratch)
}

/// What all runs have in common.
fn command(load: &Load, extent: &Extent, scratch: &Path) -> Command {
    let mut fio = Command::new("fio");
    fio.args(["--name=load", "--output-format=json", "--group_reporting"]);
    fio.arg(format!("--output={}", report_path(scratch).display()));
    fio.arg(format!("--rw={}", load.pattern));
    fio.arg(format!("--bs={}", load.block_size_bytes))
        .arg(format!("--iodepth={}", load.depth))
        .arg(format!("--numjobs={}", load.job_count));
    if let Extent::Seconds(seconds) = extent {
        fio.args(["--time_based".to_owned(), format!("--runtime={seconds}")]);
    }
    fio
}

fn report_path(scratch: &Path) -> PathBuf {
    scratch.join("fio.json")
}

fn report_of(mut fio: Command, scratch: &Path) -> Fallible<Work> {
    run::output(fio.current_dir(scratch))?;
    let report = report_path(scratch);
    work(&workspace::read(&report)?)
        .ok_or_else(|| format!("fio's report has no rate: {}", report.display()))
}

/// Reads and writes of all jobs together, in fio's report. It has one entry for them all, because they are a group.
fn work(report: &str) -> Option<Work> {
    // It may begin with a line or two in prose.
    let report: Value = serde_json::from_str(&report[report.find('{')?..]).ok()?;
    let [group] = &report.get("jobs")?.as_array()?[..] else {
        return None;
    };
    let error = group.get("error")?.as_i64()?;
    let sum = |key: &str| {
        let of = |direction: &str| group.get(direction)?.get(key)?.as_f64();
        Some(of("read")? + of("write")?)
    };
    let work = Work {
        request_count: sum("total_ios")?,
        requests_per_second: sum("iops")?,
    };
    (error == 0 && work.requests_per_second > 0.0).then_some(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_read_from_the_report() {
        let report = "fio: connected\n{\"jobs\": [{\"error\": 0, \
                      \"read\": {\"iops\": 12.5, \"total_ios\": 25}, \
                      \"write\": {\"iops\": 0.5, \"total_ios\": 1}}]}";
        let expected = Work {
            request_count: 26.0,
            requests_per_second: 13.0,
        };
        assert_eq!(work(report), Some(expected));
    }

    #[test]
    fn a_report_of_an_error_or_of_nothing_or_of_jobs_apart_is_none() {
        let job = |error: u32, rate: f64| {
            let (read, write) = (
                format!(r#"{{"iops": {rate}, "total_ios": 9}}"#),
                r#"{"iops": 0.0, "total_ios": 0}"#,
            );
            format!(r#"{{"error": {error}, "read": {read}, "write": {write}}}"#)
        };
        let good = job(0, 12.5);
        assert!(work(&format!(r#"{{"jobs": [{good}]}}"#)).is_some());
        for jobs in [
            job(5, 12.5),
            job(0, 0.0),
            String::new(),
            format!("{good}, {good}"),
        ] {
            let report = format!(r#"{{"jobs": [{jobs}]}}"#);
            assert!(work(&report).is_none(), "{report}");
        }
        assert!(work("fio: failed").is_none());
    }
}
