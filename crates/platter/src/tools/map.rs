//! `platter map`: what a disk holds where, and which layer answers.

use super::layers::{self, Layer};
use super::open::find;
use super::watching::failed;
use crate::cli::MapArgs;
use crate::exit::Failure;
use crate::output;
use crate::transfer::{Extent, Fault, Joined, Side, View};
use disk_backend::BlockState;
use futures_lite::future::block_on;
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// Lists the extents as they come: memory does not grow with their number.
pub(crate) fn run(args: &MapArgs) -> Result<ExitCode, Failure> {
    let resolver = disk_resolver::resolver();
    let found = find(&args.source, &resolver, None)?;
    let disk = found.open(true)?;
    let extents = Joined::new(View::new(&disk, Side::First));
    let layers = layers::of_disk(&disk);
    let out = BufWriter::new(io::stdout().lock());
    let mut out: Box<dyn Writer> = match args.json {
        true => Box::new(Json {
            out,
            is_first: true,
        }),
        false => Box::new(Table { out }),
    };
    list(extents, &layers, &mut *out).map_err(|error| match error {
        Unlisted::Fault(fault) => failed(&fault, [&found.name, ""]),
        Unlisted::Output(error) => output::not_taken(error),
    })?;
    Ok(ExitCode::SUCCESS)
}

enum Unlisted {
    Fault(Fault),
    Output(io::Error),
}

fn list(mut extents: Joined<'_>, layers: &[Layer], out: &mut dyn Writer) -> Result<(), Unlisted> {
    out.begin().map_err(Unlisted::Output)?;
    while let Some(extent) = block_on(extents.next()).map_err(Unlisted::Fault)? {
        let layer = extent.layer.and_then(|id| Layer::find(layers, id.get()));
        out.extent(&extent, layer).map_err(Unlisted::Output)?;
    }
    out.end().map_err(Unlisted::Output)
}

trait Writer {
    fn begin(&mut self) -> io::Result<()>;
    fn extent(&mut self, extent: &Extent, layer: Option<&Layer>) -> io::Result<()>;
    fn end(&mut self) -> io::Result<()>;
}

/// For people.
struct Table<W> {
    out: W,
}

impl<W: Write> Writer for Table<W> {
    fn begin(&mut self) -> io::Result<()> {
        writeln!(
            self.out,
            "{:>20} {:>20}  {:<5}  layer",
            "offset", "length", "state"
        )
    }

    fn extent(&mut self, extent: &Extent, layer: Option<&Layer>) -> io::Result<()> {
        let (start, len) = (extent.range.start, extent.range.end - extent.range.start);
        let state = state(extent.state);
        let layer = layer.map_or_else(|| "-".to_owned(), Layer::text);
        writeln!(self.out, "{start:>20} {len:>20}  {state:<5}  {layer}")
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// For programs: an array with one extent on each line.
struct Json<W> {
    out: W,
    is_first: bool,
}

impl<W: Write> Writer for Json<W> {
    fn begin(&mut self) -> io::Result<()> {
        self.out.write_all(b"[")
    }

    fn extent(&mut self, extent: &Extent, layer: Option<&Layer>) -> io::Result<()> {
        let separator = match std::mem::replace(&mut self.is_first, false) {
            true => "",
            false => ",",
        };
        let extent = json!({
            "offset": extent.range.start,
            "length": extent.range.end - extent.range.start,
            "state": state(extent.state),
            "layer": layer.map(Layer::json),
        });
        write!(self.out, "{separator}\n{extent}")
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(b"\n]\n")?;
        self.out.flush()
    }
}

fn state(state: BlockState) -> &'static str {
    match state {
        BlockState::Data => "data",
        BlockState::Zero => "zero",
        BlockState::Hole => "hole",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk_backend::Disk;
    use scsi_buffers::HostBuffers;
    use serde_json::Value;

    /// A disk in memory with so many extents: each second sector is written, and the last two are alike.
    fn fragmented(extents: u64) -> Disk {
        let disk = disklayer_ram::ram_disk((extents + 1) * 512, false).unwrap();
        for sector in (0..extents).step_by(2) {
            let memory = HostBuffers::from_ref(&[7; 512]);
            block_on(disk.write_vectored(&memory.buffers(), sector, false)).unwrap();
        }
        disk
    }

    #[test]
    fn what_is_printed_as_json_is_json_whatever_the_number_of_extents() {
        for count in [2, 200] {
            let disk = fragmented(count);
            let layers = layers::of_disk(&disk);
            let mut out = Json {
                out: Vec::new(),
                is_first: true,
            };
            let extents = Joined::new(View::new(&disk, Side::First));
            assert!(list(extents, &layers, &mut out).is_ok());
            let listed: Vec<Value> = serde_json::from_slice(&out.out).unwrap();
            assert_eq!(listed.len() as u64, count);
            assert_eq!(listed[0]["state"], "data");
            assert_eq!(listed[0]["layer"]["type"], "ram");
            assert_eq!(listed[1]["offset"], 512);
        }
    }
}
