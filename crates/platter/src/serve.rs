//! `platter serve`: builds the disks, serves them, ends well.

use crate::cli::ServeArgs;
use crate::connect::ExportFacts;
use crate::daemon::Daemon;
use crate::doors::{Doors, Leftovers};
use crate::exit::{Failure, chain};
use crate::listening::{Given, listen};
use crate::plan::Plan;
use crate::ready::{self, ReadyFd};
use crate::{activation, command, connect, descriptors, handover, output, signals, tls};
use disk_resolver::OpenExport;
use frontend_nbd::{Export, Limits, ListenAddress, ServeError, Server, ServerHandle, TlsConfig};
use shared_child::SharedChild;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

/// Serves until a signal comes, the command of `--run` ends, or another daemon takes over.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Failure> {
    // Before anything else is opened or started: these are told by the numbers of descriptors.
    let ready_fd = args.ready_fd.map(ReadyFd::claim).transpose()?;
    let activated = activation::sockets()?;
    let plan = Plan::for_serving(args)?;
    let tls = tls::load(&args.tls)?;
    // A command would inherit it, and might use `select`.
    if args.run.is_none() {
        descriptors::raise_limit();
    }
    // Not before it is known that the configuration makes sense, and before its disks are wanted.
    let taken = match &args.take_over {
        Some(control) => handover::take_over(control)?,
        None => Vec::new(),
    };
    let disks = plan.open()?;
    let given = Given { activated, taken };
    // Removed when dropped, after the server is gone.
    let private_dir = match (&args.run, plan.listen.is_empty() && given.is_empty()) {
        (Some(_), true) => Some(tempfile::tempdir().map_err(Failure::running)?),
        _ => None,
    };
    let private_dir = private_dir.as_ref().map(|dir| dir.path());
    let mut server = offer(&disks)?;
    server.set_tls(tls.clone());
    let (addresses, mut sockets) = listen(&mut server, &plan.listen, given, private_dir)?;
    for address in &addresses {
        tls::warn_of_strangers(address, tls.as_ref());
    }
    sockets.kept_for = args.run.as_ref().map(|_| "that serves a command");
    let handle = server.handle();
    let daemon = Daemon::new(handle.clone(), plan.resolver, plan.read_only, sockets);
    let daemon = Arc::new(daemon);
    let doors = Doors::open(args, &daemon)?;
    let leftovers = Leftovers::new(private_dir, &doors);
    let waiter = match &args.run {
        Some(command) => {
            let child = start_command(command, &addresses[0], &disks[0].name, tls.as_ref())?;
            let running = Arc::clone(&child);
            // The server stops when the command has ended: until then it may want its disk.
            stop_on_signal(move || command::terminate(&running), leftovers)?;
            Some(stop_after(child, handle)?)
        }
        None => {
            stop_on_signal(move || handle.stop(), leftovers)?;
            announce(&disks, &addresses, tls.as_ref(), &doors);
            None
        }
    };
    ready::notify(&format!("READY=1\nSTATUS=Serving {} exports", disks.len()));
    if let Some(ready_fd) = ready_fd {
        ready_fd.tell();
    }
    // From here on only the server holds them, so that one that is removed is let go.
    drop(disks);
    let served = server.serve();
    end(&daemon, doors, served)?;
    match waiter {
        Some(waiter) => Ok(waiter.join().expect("waiting for a command does not panic")),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Lets go of everything, in an order that whoever takes over can rely on.
fn end(daemon: &Daemon, mut doors: Doors, served: Result<(), ServeError>) -> Result<(), Failure> {
    daemon.release();
    doors.lock();
    let result = match &served {
        Ok(()) => Ok(()),
        Err(error) => Err(chain(error)),
    };
    daemon.farewell().finish(result);
    doors.close();
    served.map_err(Failure::running)
}

fn stop_on_signal(
    stop: impl FnOnce() + Send + 'static,
    leftovers: Leftovers,
) -> Result<(), Failure> {
    let stop = move |_| {
        ready::notify("STOPPING=1");
        signals::log_stopping();
        stop();
    };
    signals::on_stop(stop, move || leftovers.remove()).map_err(Failure::running)
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

/// Says what is served and where. Clients need not wait for somebody who reads it: if nobody does, the log says so.
fn announce(
    disks: &[OpenExport],
    addresses: &[ListenAddress],
    tls: Option<&TlsConfig>,
    doors: &Doors,
) {
    let mut text = String::from("Serving\n");
    for export in disks {
        text += &format!("  {}\n", ExportFacts::new(&export.name, &export.disk));
    }
    text += "at\n";
    for address in addresses {
        text += &format!("  {address}\n");
    }
    text += &doors.describe();
    text += "Try\n";
    text += &connect::instructions(&addresses[0], &disks[0], tls);
    text += "Ctrl-C stops: what is in flight is finished and flushed.\n";
    if let Err(error) = output::print(&text) {
        tracing::warn!("serving, but {error}");
    }
}

fn start_command(
    command: &str,
    address: &ListenAddress,
    export_name: &str,
    tls: Option<&TlsConfig>,
) -> Result<Arc<SharedChild>, Failure> {
    let socket = match address {
        ListenAddress::Unix(path) => Some(path.as_path()),
        _ => None,
    };
    command::start(command, &tls::uri(address, export_name, tls), socket)
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
