//! What a person sees of a run, and how a signal ends it.

use crate::exit::Failure;
use crate::signals;
use crate::transfer::{Effort, Fault, Side, Watch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Watches the runs of one command.
pub(crate) struct Watching {
    bar: ProgressBar,
    /// The signal that asked for the end; 0 if none did.
    signal: Arc<AtomicI32>,
}

const STEPS_TEMPLATE: &str = "{msg} {bar:30} {percent}% {eta} left";

const TEMPLATE: &str = "{msg} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";

impl Watching {
    /// With a progress bar on a terminal, unless `is_quiet`. From now on SIGINT and SIGTERM end a run instead of the process.
    ///
    /// # Errors
    /// If the signals cannot be caught.
    pub(crate) fn start(is_quiet: bool) -> Result<Self, Failure> {
        let target = match is_quiet || !std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let signal = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&signal);
        let stop = move |signal| {
            seen.store(signal, Ordering::Release);
            // Whoever reads the line may rely on it.
            signals::log_stopping();
        };
        signals::on_stop(stop, || {}).map_err(Failure::running)?;
        let bar = ProgressBar::with_draw_target(None, target);
        Ok(Self { bar, signal })
    }

    /// A run of so many bytes begins.
    pub(crate) fn begin(&self, what: &'static str, len_bytes: u64) {
        self.start_over(what, len_bytes, TEMPLATE);
    }

    fn start_over(&self, what: &'static str, length: u64, template: &str) {
        let style = ProgressStyle::with_template(template).expect("the template is well written");
        self.bar.set_style(style);
        self.bar.set_message(what);
        self.bar.reset();
        self.bar.set_length(length);
    }

    /// A run begins whose length it will tell itself.
    pub(crate) fn begin_steps(&self, what: &'static str) {
        self.start_over(what, 1, STEPS_TEMPLATE);
    }

    /// So many steps of so many are done; whether to go on.
    pub(crate) fn step(&self, done: u64, all: u64) -> ControlFlow<()> {
        self.bar.set_length(all);
        self.bar.set_position(done);
        match self.is_stopped() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// The last run has ended: the bar makes room for what is said of it.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// How the process ends if a signal asked it to: as shells say it.
    pub(crate) fn exit_code(&self) -> Option<ExitCode> {
        match u8::try_from(self.signal.load(Ordering::Acquire)) {
            Ok(0) | Err(_) => None,
            // Signals are below 128.
            Ok(signal) => Some(ExitCode::from(128 + signal)),
        }
    }
}

impl Watch for Watching {
    fn is_stopped(&self) -> bool {
        self.signal.load(Ordering::Acquire) != 0
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

/// The failure that a fault is, where the disks have these names: the first, and the second.
pub(crate) fn failed(fault: &Fault, names: [&str; 2]) -> Failure {
    let name = match fault.side {
        Side::First => names[0],
        Side::Second => names[1],
    };
    Failure::running(format!("{name}: {}", crate::exit::chain(fault)))
}

/// How much to do at once, as the command line says it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct EffortArgs {
    /// How many requests are in flight at once, at most 64
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) requests: u8,
    /// How long a request is at most, from 64K to 16M; twice this, times --requests, is the memory used
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = request_size)]
    pub(crate) request_size: u64,
}

fn request_size(text: &str) -> Result<u64, String> {
    let size: resource::ByteSize = text
        .parse()
        .map_err(|error: resource::InvalidByteSize| error.to_string())?;
    match size.bytes() {
        bytes if !(64 << 10..=16 << 20).contains(&bytes) => {
            Err("it must be from 64K to 16M".to_owned())
        }
        bytes if !bytes.is_power_of_two() => Err("it must be a power of two".to_owned()),
        bytes => Ok(bytes),
    }
}

impl EffortArgs {
    /// What is done at once unless the command line says something else.
    pub(crate) const DEFAULT: Effort = Effort {
        depth: 8,
        chunk_bytes: 1 << 20,
    };

    pub(crate) fn effort(self) -> Effort {
        Effort {
            depth: self.requests.into(),
            chunk_bytes: self.request_size,
        }
    }
}
