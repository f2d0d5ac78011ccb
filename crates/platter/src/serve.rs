//! `platter serve`: builds the disks, serves them, ends well.

use crate::cli::ServeArgs;
use crate::exit::{Failure, chain};
use crate::plan::Plan;
use crate::runtime_dir::runtime_dir;
use crate::{command, connect, descriptors, output, signals};
use disk_resolver::OpenExport;
use frontend_nbd::{Export, Limits, ListenAddress, Server, ServerHandle};
use shared_child::SharedChild;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

/// Serves until a signal comes, or the command of `--run` ends.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    let plan = Plan::for_serving(args)?;
    // A command would inherit it, and might use `select`.
    if args.run.is_none() {
        descriptors::raise_limit();
    }
    let disks = plan.open()?;
    // Removed when dropped, after the server is gone.
    let private_dir = match (&args.run, plan.listen.is_empty()) {
        (Some(_), true) => Some(tempfile::tempdir().map_err(Failure::running)?),
        _ => None,
    };
    let (server, addresses) = start(&plan, &disks, private_dir.as_ref().map(|dir| dir.path()))?;
    let handle = server.handle();
    let waiter = match &args.run {
        Some(command) => {
            let child = start_command(command, &addresses[0], &disks[0].name)?;
            let running = Arc::clone(&child);
            // The server stops when the command has ended: until then it may want its disk.
            signals::on_stop(move || command::terminate(&running)).map_err(Failure::running)?;
            Some(stop_after(child, handle)?)
        }
        None => {
            signals::on_stop(move || handle.stop()).map_err(Failure::running)?;
            announce(&disks, &addresses);
            None
        }
    };
    server.serve().map_err(Failure::running)?;
    match waiter {
        Some(waiter) => Ok(waiter.join().expect("waiting for a command does not panic")),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A server of these disks that listens nowhere yet.
pub(crate) fn offer(disks: &[OpenExport]) -> Result<Server, Failure> {
    let exports = disks
        .iter()
        .map(|export| Export::new(&export.name, export.disk.clone()));
    let exports = exports
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::configuration(chain(&error)))?;
    Server::new(exports, Limits::default()).map_err(|error| Failure::configuration(chain(&error)))
}

/// Listens everywhere; clients that connect from now on wait until they are served.
fn start(
    plan: &Plan,
    disks: &[OpenExport],
    private_dir: Option<&Path>,
) -> Result<(Server, Vec<ListenAddress>), Failure> {
    let mut server = offer(disks)?;
    let wanted = match plan.listen.is_empty() {
        true => vec![ListenAddress::Unix(default_socket(private_dir)?)],
        false => plan.listen.clone(),
    };
    let mut addresses = Vec::new();
    for address in wanted {
        if !address.is_local() {
            tracing::warn!(%address, "whoever reaches this address can read and write: there is no TLS and no authentication");
        }
        addresses.push(server.listen(&address).map_err(Failure::running)?);
    }
    Ok((server, addresses))
}

fn default_socket(private_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let dir = match private_dir {
        Some(dir) => dir.to_owned(),
        None => runtime_dir().map_err(Failure::running)?,
    };
    Ok(dir.join("platter.sock"))
}

/// Says what is served and where. Clients need not wait for somebody who reads it: if nobody does, the log says so.
fn announce(disks: &[OpenExport], addresses: &[ListenAddress]) {
    let mut text = String::from("Serving\n");
    for export in disks {
        text += &format!("  {}\n", connect::describe(&export.name, &export.disk));
    }
    text += "at\n";
    for address in addresses {
        text += &format!("  {address}\n");
    }
    text += "Try\n";
    text += &connect::instructions(&addresses[0], &disks[0]);
    text += "Ctrl-C stops: what is in flight is finished and flushed.\n";
    if let Err(error) = output::print(&text) {
        tracing::warn!("serving, but {error}");
    }
}

fn start_command(
    command: &str,
    address: &ListenAddress,
    export_name: &str,
) -> Result<Arc<SharedChild>, Failure> {
    let socket = match address {
        ListenAddress::Unix(path) => Some(path.as_path()),
        _ => None,
    };
    command::start(command, &address.uri(export_name), socket)
}

/// Stops the server when the command has ended.
fn stop_after(
    child: Arc<SharedChild>,
    handle: ServerHandle,
) -> Result<thread::JoinHandle<ExitCode>, Failure> {
    thread::Builder::new()
        .name("command".to_owned())
        .spawn(move || {
            let code = match child.wait() {
                Ok(status) => command::exit_code(status),
                Err(error) => {
                    tracing::error!("cannot wait for the command of --run: {error}");
                    ExitCode::from(1)
                }
            };
            handle.stop();
            code
        })
        .map_err(Failure::running)
}
