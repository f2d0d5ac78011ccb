//! The text form of metrics, version 0.0.4, as Prometheus documents it ("Exposition formats").

use crate::metrics::catalogue::{Kind, METRICS, Metric, Scope};
use serde_json::Value;
use std::fmt::Write as _;

/// Upper bounds of a histogram's buckets, in nanoseconds: powers of four, from 4 us to 17 s. The histograms of the tree have a
/// boundary at every power of two, so nothing is counted in a wrong one.
const BOUNDS_NS: [u64; 12] = {
    let mut bounds = [0; 12];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = 4096 << (2 * index);
        index += 1;
    }
    bounds
};

/// A part of the tree that metrics are about.
struct Subject<'a> {
    scope: Scope,
    /// As they are written between braces; empty, or `name="value",...`.
    labels: String,
    part: &'a Value,
}

/// All metrics of a daemon's inspection tree.
pub(crate) fn page(tree: &Value) -> String {
    let subjects = subjects(tree);
    let mut page = String::new();
    let version = tree["version"].as_str().unwrap_or_default();
    head(
        &mut page,
        "platter_info",
        Kind::Gauge,
        "Which version it is; always 1.",
    );
    line(
        &mut page,
        "platter_info",
        &labels(&[("version", version)]),
        "1",
    );
    for metric in METRICS {
        let mut samples = String::new();
        let subjects = subjects
            .iter()
            .filter(|subject| subject.scope == metric.scope);
        for subject in subjects {
            sample(&mut samples, metric, subject);
        }
        if !samples.is_empty() {
            head(&mut page, metric.name, metric.kind, metric.help);
            page += &samples;
        }
    }
    page
}

fn subjects(tree: &Value) -> Vec<Subject<'_>> {
    let mut subjects = vec![Subject {
        scope: Scope::Daemon,
        labels: String::new(),
        part: tree,
    }];
    for (export, part) in parts(tree.get("exports")) {
        let labels_of_export = labels(&[("export", export)]);
        subjects.push(Subject {
            scope: Scope::Export,
            labels: labels_of_export,
            part,
        });
        for (operation, part) in parts(part.get("operations")) {
            // Most exports are never asked for most operations.
            if part.get("requests").and_then(Value::as_u64) != Some(0) {
                let labels = labels(&[("export", export), ("operation", operation)]);
                subjects.push(Subject {
                    scope: Scope::Operation,
                    labels,
                    part,
                });
            }
        }
        if let Some(disk) = part.get("disk") {
            add_layers(&mut subjects, export, "", disk);
        }
    }
    subjects
}

/// The layers of a disk, and those of disks among them: `1/0` is the top layer of the disk that is layer 1. The tree's depth is
/// bounded (`inspect::LEVELS_MAX`), and so is this.
fn add_layers<'a>(subjects: &mut Vec<Subject<'a>>, export: &str, prefix: &str, disk: &'a Value) {
    for (index, part) in parts(disk.get("layers")) {
        let layer = format!("{prefix}{index}");
        let layer_type = part
            .get("layer_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let labels = labels(&[("export", export), ("layer", &layer), ("type", layer_type)]);
        subjects.push(Subject {
            scope: Scope::Layer,
            labels,
            part,
        });
        if let Some(backing) = part.get("backing") {
            add_layers(subjects, export, &format!("{layer}/"), backing);
        }
    }
    // A disk around another one: what is inside of it has the names that it had without it.
    if let Some(below) = disk.get("disk") {
        add_layers(subjects, export, prefix, below);
    }
}

fn parts(object: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let object = object.and_then(Value::as_object).into_iter().flatten();
    object.map(|(name, part)| (name.as_str(), part))
}

fn sample(text: &mut String, metric: &Metric, subject: &Subject<'_>) {
    let Some(value) = metric.source.find(subject.part) else {
        return;
    };
    match metric.kind {
        Kind::Histogram => histogram(text, metric.name, &subject.labels, &value),
        _ if value.is_number() => line(text, metric.name, &subject.labels, &value.to_string()),
        // A part that cannot be read now.
        _ => {}
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, latency_ns: &Value) {
    let number = |key: &str| latency_ns.get(key).and_then(Value::as_u64).unwrap_or(0);
    // Values beyond the last bound are in a bucket that has none.
    let buckets: Vec<(u64, u64)> = parts(latency_ns.get("buckets"))
        .filter_map(|(bound, count)| Some((bound.parse().unwrap_or(u64::MAX), count.as_u64()?)))
        .collect();
    let name_of_buckets = format!("{name}_bucket");
    let mut bucket = |bound: &str, count: u64| {
        let labels = format!("{labels},le=\"{bound}\"");
        line(text, &name_of_buckets, &labels, &count.to_string());
    };
    let below = |bound_ns: u64| {
        let below = buckets.iter().filter(|(bound, _)| *bound <= bound_ns);
        below.map(|(_, count)| count).sum()
    };
    for bound_ns in BOUNDS_NS {
        bucket(&seconds(bound_ns).to_string(), below(bound_ns));
    }
    // The counts are read one after another while they grow: the sum of all is what the last bucket must have.
    let count = below(u64::MAX);
    bucket("+Inf", count);
    line(
        text,
        &format!("{name}_sum"),
        labels,
        &seconds(number("sum")).to_string(),
    );
    line(text, &format!("{name}_count"), labels, &count.to_string());
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn head(text: &mut String, name: &str, kind: Kind, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name())
        .expect("writing to a string succeeds");
}

fn line(text: &mut String, name: &str, labels: &str, value: &str) {
    match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    }
    .expect("writing to a string succeeds");
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// A label's value between quotes. Names of exports are anything but a zero byte.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_exports_cannot_break_out_of_their_label() {
        let tree = json!({ "exports": { "a\"} 1\n\\": { "connections": 2 } } });
        let page = page(&tree);
        assert!(
            page.contains("\nplatter_export_connections{export=\"a\\\"} 1\\n\\\\\"} 2\n"),
            "{page}"
        );
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let latency =
            json!({ "sum": 2_000_000_000_u64, "buckets": { "4096": 3, "5000": 1, "more": 1 } });
        let operation = json!({ "requests": 5, "latency_ns": latency });
        let tree = json!({ "exports": { "": { "operations": { "read": operation } } } });
        let page = page(&tree);
        let line = |suffix: &str| {
            let start = format!("platter_request_duration_seconds{suffix} ");
            page.lines()
                .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
        };
        let labels = "export=\"\",operation=\"read\"";
        for (bound, count) in [
            ("0.000004096", 3),
            ("0.000016384", 4),
            ("17.179869184", 4),
            ("+Inf", 5),
        ] {
            let found = line(&format!("_bucket{{{labels},le=\"{bound}\"}}"));
            assert_eq!(found, Some(count.to_string()), "{bound}: {page}");
        }
        assert_eq!(line(&format!("_sum{{{labels}}}")).as_deref(), Some("2"));
        assert_eq!(line(&format!("_count{{{labels}}}")).as_deref(), Some("5"));
    }

    #[test]
    fn layers_of_disks_that_are_layers_are_found() {
        let inner = json!({ "layers": { "0": { "layer_type": "ram", "backing": { "committed_size": 7 } } } });
        let disk = json!({ "layers": { "1": { "layer_type": "disk", "backing": inner } } });
        let page = page(&json!({ "exports": { "x": { "disk": disk } } }));
        let expected = "platter_layer_committed_bytes{export=\"x\",layer=\"1/0\",type=\"ram\"} 7\n";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn layers_inside_of_a_disk_that_is_around_them_are_found() {
        let stack = json!({ "layers": { "1": { "layer_type": "ram", "backing": { "committed_size": 7 } } } });
        let disk = json!({ "disk_type": "fault", "disk": stack });
        let page = page(&json!({ "exports": { "x": { "disk": disk } } }));
        let expected = "platter_layer_committed_bytes{export=\"x\",layer=\"1\",type=\"ram\"} 7\n";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn the_page_of_the_documentation_lists_every_metric_and_no_other() {
        let page = include_str!("../../../../docs/observability.md");
        let listed: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `platter_"))
            .collect();
        let info = "| `platter_info` | gauge | Which version it is; always 1. |".to_owned();
        let metrics = METRICS.iter().map(|metric| {
            format!(
                "| `{}` | {} | {} |",
                metric.name,
                metric.kind.name(),
                metric.help
            )
        });
        let expected: Vec<String> = std::iter::once(info).chain(metrics).collect();
        assert_eq!(listed, expected);
    }
}
