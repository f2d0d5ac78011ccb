//! One run of `fio` with its NBD engine: the client that both servers are measured with.

use std::path::Path;
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
}

/// How much of it.
pub(crate) enum Extent {
    /// The whole disk, once.
    Once,
    /// For so many seconds, over the whole disk again and again.
    Seconds(u32),
}

/// Runs the load from one processor and returns requests per second. `scratch` is a folder for fio's files.
pub(crate) fn requests_per_second(
    uri: &str,
    load: &Load,
    extent: &Extent,
    processor: usize,
    scratch: &Path,
) -> Fallible<f64> {
    let report = scratch.join("fio.json");
    let mut fio = Command::new("fio");
    fio.args([
        "--name=load",
        "--ioengine=nbd",
        "--size=100%",
        "--output-format=json",
    ]);
    fio.arg(format!("--uri={uri}"))
        .arg(format!("--output={}", report.display()));
    fio.arg(format!("--rw={}", load.pattern));
    fio.arg(format!("--bs={}", load.block_size_bytes))
        .arg(format!("--iodepth={}", load.depth));
    if let Extent::Seconds(seconds) = extent {
        fio.args(["--time_based".to_owned(), format!("--runtime={seconds}")]);
    }
    run::output(pin(&fio, processor).current_dir(scratch))?;
    rate(&workspace::read(&report)?)
        .ok_or_else(|| format!("fio's report has no rate: {}", report.display()))
}

/// Requests per second, reads and writes together, in fio's report.
fn rate(report: &str) -> Option<f64> {
    // It may begin with a line or two in prose.
    let report: Value = serde_json::from_str(&report[report.find('{')?..]).ok()?;
    let job = report.get("jobs")?.get(0)?;
    let error = job.get("error")?.as_i64()?;
    let of = |direction: &str| job.get(direction)?.get("iops")?.as_f64();
    let rate = of("read")? + of("write")?;
    (error == 0 && rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the number is exact")]
    fn the_rate_is_read_from_the_report() {
        let report = "fio: connected\n{\"jobs\": [{\"error\": 0, \"read\": {\"iops\": 12.5}, \
                      \"write\": {\"iops\": 0.0}}]}";
        assert_eq!(rate(report).unwrap(), 12.5);
    }

    #[test]
    fn a_report_of_an_error_or_of_nothing_is_no_rate() {
        for report in [
            r#"{"jobs": [{"error": 5, "read": {"iops": 12.5}, "write": {"iops": 0.0}}]}"#,
            r#"{"jobs": [{"error": 0, "read": {"iops": 0.0}, "write": {"iops": 0.0}}]}"#,
            r#"{"jobs": []}"#,
            "fio: failed",
        ] {
            assert!(rate(report).is_none(), "{report}");
        }
    }
}
