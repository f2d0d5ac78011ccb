//! A RAM disk over NBD: `cargo run --release -p frontend_nbd --example serve_ram -- unix:/tmp/ram.sock [SIZE_MIB]`.
//!
//! It serves until its standard input ends: press Control-D, or close the pipe.
#![allow(clippy::print_stdout, reason = "it is a program")]

use disklayer_ram::ram_disk;
use frontend_nbd::{Export, Limits, Server};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "tcp:0".to_owned()).parse()?;
    let size_mib: u64 = args.next().unwrap_or_else(|| "1024".to_owned()).parse()?;

    let export = Export::new("ram", ram_disk(size_mib << 20, false)?)?;
    let mut server = Server::new([export], Limits::default())?;
    println!("{}", server.listen(&address)?.uri("ram"));

    let handle = server.handle();
    std::thread::spawn(move || {
        // An error is an end, too.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        handle.stop();
    });
    Ok(server.serve()?)
}
