//! Every metric: its name, what it means, and where in the inspection tree it comes from.

use serde_json::Value;

/// One metric.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(crate) source: Source,
    pub(crate) help: &'static str,
}

/// What Prometheus calls the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, until the daemon ends.
    Counter,
    /// Durations, counted by how long they took.
    Histogram,
}

/// Of what there is one value each, and so which labels it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Daemon,
    /// `export`.
    Export,
    /// `export` and `operation`; none for operations that nobody has asked for.
    Operation,
    /// `export`, `layer` and `type`.
    Layer,
}

/// Where in the part of the tree that belongs to the scope.
pub(crate) enum Source {
    /// A JSON pointer.
    At(&'static str),
    Computed(fn(&Value) -> Option<u64>),
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Source {
    pub(crate) fn find<'a>(&self, part: &'a Value) -> Option<std::borrow::Cow<'a, Value>> {
        match self {
            Self::At(pointer) => part.pointer(pointer).map(std::borrow::Cow::Borrowed),
            Self::Computed(compute) => {
                compute(part).map(|number| std::borrow::Cow::Owned(number.into()))
            }
        }
    }
}

const fn metric(
    name: &'static str,
    kind: Kind,
    scope: Scope,
    pointer: &'static str,
    help: &'static str,
) -> Metric {
    let source = Source::At(pointer);
    Metric {
        name,
        kind,
        scope,
        source,
        help,
    }
}

const fn computed(
    name: &'static str,
    scope: Scope,
    compute: fn(&Value) -> Option<u64>,
    help: &'static str,
) -> Metric {
    let source = Source::Computed(compute);
    Metric {
        name,
        kind: Kind::Gauge,
        scope,
        source,
        help,
    }
}

fn count_of(part: &Value, name: &str) -> Option<u64> {
    Some(part.get(name)?.as_object()?.len() as u64)
}

fn size_bytes(export: &Value) -> Option<u64> {
    let number = |pointer| export.pointer(pointer).and_then(Value::as_u64);
    number("/disk/sector_count")?.checked_mul(number("/disk/sector_size")?)
}

use Kind::{Counter, Gauge, Histogram};
use Scope::{Daemon, Export, Layer, Operation};

/// In the order in which they are shown. Names are stable: what measures something else gets another name.
#[rustfmt::skip]
pub(crate) const METRICS: &[Metric] = &[
    metric("platter_uptime_seconds", Gauge, Daemon, "/uptime_seconds", "Time since the daemon began."),
    computed("platter_exports", Daemon, |part| count_of(part, "exports"), "Disks that are served."),
    computed("platter_connections", Daemon, |part| count_of(part, "connections"), "Clients that are connected."),
    metric("platter_connections_accepted_total", Counter, Daemon, "/accepted", "Clients that were let in."),
    metric("platter_connections_refused_total", Counter, Daemon, "/refused", "Clients that were closed at once, for want of room."),
    computed("platter_export_size_bytes", Export, size_bytes, "Size of the disk."),
    metric("platter_export_connections", Gauge, Export, "/connections", "Clients that use the export."),
    metric("platter_export_connections_refused_total", Counter, Export, "/refused", "Clients that wanted the export and found no room."),
    metric("platter_export_requests_in_flight", Gauge, Export, "/requests_in_flight", "Requests that are being worked on."),
    metric("platter_requests_total", Counter, Operation, "/requests", "Requests that were answered."),
    metric("platter_request_errors_total", Counter, Operation, "/errors", "Requests that were answered with an error."),
    metric("platter_request_bytes_total", Counter, Operation, "/bytes", "Bytes that the requests were about."),
    metric("platter_request_duration_seconds", Histogram, Operation, "/latency_ns", "Time from a request's arrival to its answer."),
    metric("platter_layer_hit_bytes_total", Counter, Layer, "/counters/bytes_hit", "Bytes of reads that the layer answered."),
    metric("platter_layer_missed_bytes_total", Counter, Layer, "/counters/bytes_missed", "Bytes of reads that the layer passed on to those below."),
    metric("platter_layer_written_bytes_total", Counter, Layer, "/counters/bytes_written", "Bytes that were written to the layer."),
    metric("platter_layer_committed_bytes", Gauge, Layer, "/backing/committed_size", "Memory that a RAM layer holds for data."),
    metric("platter_layer_pool_bytes_in_use", Gauge, Layer, "/backing/bounce_pool/bytes_in_use", "Temporary memory in use for unaligned requests."),
    metric("platter_layer_pool_waits_total", Counter, Layer, "/backing/bounce_pool/waits", "Requests that had to wait for temporary memory."),
];
