//! `platter map`: what a disk holds where, and which layer answers.

use super::layers::{self, Layer};
use super::open::find;
use super::watching::failed;
use crate::cli::MapArgs;
use crate::exit::Failure;
use crate::output;
use crate::transfer::{Extent, Extents, Fault, Side, View};
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
    let extents = Joined {
        extents: Extents::new(View::new(&disk, Side::First)),
        ahead: None,
    };
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

/// Extents of which no two neighbours are alike.
struct Joined<'a> {
    extents: Extents<'a>,
    ahead: Option<Extent>,
}

impl Joined<'_> {
    async fn next(&mut self) -> Result<Option<Extent>, Fault> {
        let mut extent = match self.ahead.take() {
            Some(extent) => extent,
            None => match self.extents.next().await? {
                Some(extent) => extent,
                None => return Ok(None),
            },
        };
        while let Some(next) = self.extents.next().await? {
            if !next.is_like(&extent) {
                self.ahead = Some(next);
                break;
            }
            extent.range.end = next.range.end;
        }
        Ok(Some(extent))
    }
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
