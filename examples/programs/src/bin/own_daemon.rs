//! A daemon of your own, for disks with a layer type of your own.
//!
//! `own_daemon FILE.json` serves the disks of a document over NBD, until its standard input ends.
#![allow(
    clippy::print_stdout,
    reason = "an example talks to whoever started it"
)]

use disk_resolver::{Config, resolver};
// Links the crate, which registers its type. A crate that nothing names is left out.
use disklayer_capped as _;
use frontend_nbd::{Export, Limits, Server};
use futures_lite::future::block_on;
use std::error::Error;
use std::{env, io, thread};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: own_daemon FILE.json")?;
    let config = Config::read(path)?;
    let disks = block_on(config.open(&resolver(), false))?;
    let exports = disks
        .into_iter()
        .map(|open| Export::new(open.name, open.disk));
    let mut server = Server::new(exports.collect::<Result<Vec<_>, _>>()?, Limits::default())?;
    for address in &config.document().listen {
        println!("listening at {}", server.listen(&address.parse()?)?);
    }
    let handle = server.handle();
    thread::spawn(move || {
        // However reading ends, there is nobody any more who wants us.
        _ = io::copy(&mut io::stdin(), &mut io::sink());
        handle.stop();
    });
    Ok(server.serve()?)
}
