//! `platter info`: what a disk is.

use super::layers::{self, Layer};
use super::open::find;
use crate::cli::InfoArgs;
use crate::connect::Bytes;
use crate::exit::Failure;
use crate::output;
use crate::tools::watching::failed;
use crate::transfer::{Extents, Side, View};
use disk_backend::{BlockState, Disk, Persistence, UnmapBehavior};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// How many extents are looked at to find out how much is allocated: as many as a disk tells in a moment.
const EXTENTS_MAX: usize = 10_000;

/// Opens the disk read-only and describes it.
pub(crate) fn run(args: &InfoArgs) -> Result<ExitCode, Failure> {
    let resolver = disk_resolver::resolver();
    let found = find(&args.source, &resolver, None)?;
    let disk = found.open(true)?;
    let is_read_only = found.is_described_as_read_only() || is_read_only_there(&disk);
    let info = Info {
        name: found.name.clone(),
        is_read_only,
        unmap: unmap_behavior(&disk, is_read_only),
        allocated: allocated(&disk).map_err(|fault| failed(&fault, [&found.name, ""]))?,
        layers: layers::of_disk(&disk),
        disk,
    };
    output::print(&match args.json {
        true => format!("{:#}\n", info.json()),
        false => info.text(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether an NBD server says so of its export.
fn is_read_only_there(disk: &Disk) -> bool {
    let answer = inspect::inspect("server/is_read_only_there", None, disk);
    matches!(block_on(answer), Ok(Value::Bool(true)))
}

struct Info {
    name: String,
    disk: Disk,
    is_read_only: bool,
    unmap: Option<&'static str>,
    allocated: Option<Allocated>,
    layers: Vec<Layer>,
}

/// How many bytes of a disk are in which state.
#[derive(Default)]
struct Allocated {
    data_bytes: u64,
    zero_bytes: u64,
    hole_bytes: u64,
}

/// None if the disk is too fragmented to find out in passing.
fn allocated(disk: &Disk) -> Result<Option<Allocated>, crate::transfer::Fault> {
    let mut extents = Extents::new(View::new(disk, Side::First));
    let mut sums = Allocated::default();
    for _ in 0..EXTENTS_MAX {
        let Some(extent) = block_on(extents.next())? else {
            return Ok(Some(sums));
        };
        let sum = match extent.state {
            BlockState::Data => &mut sums.data_bytes,
            BlockState::Zero => &mut sums.zero_bytes,
            BlockState::Hole => &mut sums.hole_bytes,
        };
        *sum += extent.range.end - extent.range.start;
    }
    Ok(None)
}

/// None if only a disk that is open for writing would know.
fn unmap_behavior(disk: &Disk, is_read_only: bool) -> Option<&'static str> {
    match disk.unmap_behavior() {
        UnmapBehavior::Zeroes => Some("zeroes"),
        UnmapBehavior::Unspecified => Some("unspecified"),
        UnmapBehavior::Ignored if is_read_only => Some("ignored"),
        UnmapBehavior::Ignored => None,
    }
}

impl Info {
    fn size_bytes(&self) -> u64 {
        self.disk.sector_count() << self.disk.sector_shift()
    }

    fn persistence(&self) -> &'static str {
        match self.disk.persistence() {
            Persistence::Persistent => "persistent",
            Persistence::Volatile => "volatile",
        }
    }

    fn disk_id(&self) -> Option<String> {
        let id = self.disk.disk_id()?;
        Some(format!("{:032x}", u128::from_be_bytes(id)))
    }

    fn atomic_write_bytes(&self) -> u64 {
        u64::from(self.disk.atomic_write_sectors()) << self.disk.sector_shift()
    }

    fn json(&self) -> Value {
        let allocated = self.allocated.as_ref().map(|sums| {
            json!({
                "data_bytes": sums.data_bytes,
                "zero_bytes": sums.zero_bytes,
                "hole_bytes": sums.hole_bytes,
            })
        });
        let layers: Vec<Value> = self.layers.iter().map(Layer::tree).collect();
        json!({
            "source": self.name,
            "type": self.disk.disk_type(),
            "size_bytes": self.size_bytes(),
            "sector_count": self.disk.sector_count(),
            "sector_size": self.disk.sector_size(),
            "physical_sector_size": self.disk.physical_sector_size(),
            "read_only": self.is_read_only,
            "persistence": self.persistence(),
            "unmap_behavior": self.unmap,
            "optimal_unmap_sectors": self.disk.optimal_unmap_sectors(),
            "atomic_write_bytes": self.atomic_write_bytes(),
            "disk_id": self.disk_id(),
            "content_stamp": self.disk.content_stamp().map(|stamp| stamp.to_string()),
            "allocated": allocated,
            "layers": layers,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.name);
        let mut line = |key: &str, value: &str| {
            writeln!(text, "  {key:<18} {value}").expect("writing to a string succeeds");
        };
        let (size, sectors) = (self.size_bytes(), self.disk.sector_count());
        line("type", self.disk.disk_type());
        line(
            "size",
            &format!("{} ({size} bytes, {sectors} sectors)", Bytes(size)),
        );
        let (logical, physical) = (self.disk.sector_size(), self.disk.physical_sector_size());
        line(
            "sectors",
            &format!("{logical} bytes, physically {physical}"),
        );
        line("read-only", if self.is_read_only { "yes" } else { "no" });
        line(
            "keeps its content",
            match self.disk.persistence() {
                Persistence::Persistent => "yes",
                Persistence::Volatile => "no",
            },
        );
        let unknown = "unknown: it was opened read-only";
        line(
            "unmapped sectors",
            match self.unmap {
                Some("zeroes") => "read zero",
                Some("ignored") => "keep their content",
                Some(_) => "keep their content or read zero",
                None => unknown,
            },
        );
        line(
            "atomic writes",
            &format!("{} bytes", self.atomic_write_bytes()),
        );
        line("identity", self.disk_id().as_deref().unwrap_or("none"));
        line(
            "allocated",
            &match &self.allocated {
                None => "unknown: too many extents; `platter map` lists them".to_owned(),
                Some(sums) => {
                    let holes = Bytes(sums.zero_bytes + sums.hole_bytes);
                    format!("{} of data, {holes} of zeros", Bytes(sums.data_bytes))
                }
            },
        );
        if !self.layers.is_empty() {
            text += "  layers, top first\n";
            describe(&self.layers, 4, &mut text);
        }
        text
    }
}

fn describe(layers: &[Layer], indent: usize, text: &mut String) {
    for layer in layers {
        writeln!(text, "{:indent$}{}", "", layer.text()).expect("writing to a string succeeds");
        describe(&layer.layers, indent + 2, text);
    }
}
