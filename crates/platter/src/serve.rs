//! `platter serve`: builds the disks, serves them, ends well.

use crate::cli::{ControlSocket, ServeArgs};
use crate::connect::ExportFacts;
use crate::daemon::Daemon;
use crate::door::Door;
use crate::exit::{Failure, chain};
use crate::plan::Plan;
use crate::runtime_dir::{self, runtime_dir};
use crate::{command, connect, control, descriptors, output, signals};
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
    let private_dir = private_dir.as_ref().map(|dir| dir.path());
    let (server, addresses) = start(&plan, &disks, private_dir)?;
    let handle = server.handle();
    let daemon = Arc::new(Daemon::new(handle.clone(), plan.resolver, plan.read_only));
    let control = match &args.control {
        Some(socket) => Some(open_control(socket, &daemon)?),
        None => None,
    };
    let leave_nothing = Leftovers::new(private_dir, control.as_ref());
    let give_up = move || leave_nothing.remove();
    let waiter = match &args.run {
        Some(command) => {
            let child = start_command(command, &addresses[0], &disks[0].name)?;
            let running = Arc::clone(&child);
            // The server stops when the command has ended: until then it may want its disk.
            signals::on_stop(move |_| command::terminate(&running), give_up)
                .map_err(Failure::running)?;
            Some(stop_after(child, handle)?)
        }
        None => {
            signals::on_stop(move |_| handle.stop(), give_up).map_err(Failure::running)?;
            announce(&disks, &addresses, control.as_ref());
            None
        }
    };
    // From here on only the server holds them, so that one that is removed is let go.
    drop(disks);
    let served = server.serve().map_err(Failure::running);
    daemon.release();
    if let Some(control) = control {
        control.door.close();
    }
    served?;
    match waiter {
        Some(waiter) => Ok(waiter.join().expect("waiting for a command does not panic")),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The control socket, open.
struct Control {
    path: PathBuf,
    door: Door,
}

fn open_control(socket: &ControlSocket, daemon: &Arc<Daemon>) -> Result<Control, Failure> {
    let path = match socket {
        ControlSocket::Auto => runtime_dir::control_socket().map_err(Failure::running)?,
        ControlSocket::At(path) => path.clone(),
    };
    let listener = control::bind(&path)?;
    let path = listener.path().to_owned();
    let door = control::serve(listener, Arc::clone(daemon))?;
    Ok(Control { path, door })
}

/// What is in the file system only while the process runs, for an end that drops nothing.
struct Leftovers {
    private_dir: Option<PathBuf>,
    control: Option<PathBuf>,
}

impl Leftovers {
    fn new(private_dir: Option<&Path>, control: Option<&Control>) -> Self {
        Self {
            private_dir: private_dir.map(Path::to_owned),
            control: control.map(|control| control.path.clone()),
        }
    }

    fn remove(self) {
        let removed = self.private_dir.map(std::fs::remove_dir_all).into_iter();
        for result in removed.chain(self.control.map(std::fs::remove_file)) {
            if let Err(error) = result {
                tracing::warn!("something is left behind: {error}");
            }
        }
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
fn announce(disks: &[OpenExport], addresses: &[ListenAddress], control: Option<&Control>) {
    let mut text = String::from("Serving\n");
    for export in disks {
        text += &format!("  {}\n", ExportFacts::new(&export.name, &export.disk));
    }
    text += "at\n";
    for address in addresses {
        text += &format!("  {address}\n");
    }
    if let Some(control) = control {
        text += &format!("with a control socket at\n  {}\n", control.path.display());
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
