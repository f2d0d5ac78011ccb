//! The side doors of a daemon, and what of it is in the file system only while it runs.

use crate::cli::{ControlSocket, ServeArgs};
use crate::control;
use crate::daemon::Daemon;
use crate::door::Door;
use crate::exit::Failure;
use crate::metrics::{self, MetricsDoor};
use crate::runtime_dir;
use local_socket::SocketFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The doors that were asked for, open.
pub(crate) struct Doors {
    control: Option<(PathBuf, Door)>,
    metrics: Option<MetricsDoor>,
}

impl Doors {
    /// # Errors
    /// If one of them cannot be opened.
    pub(crate) fn open(args: &ServeArgs, daemon: &Arc<Daemon>) -> Result<Self, Failure> {
        let control = match &args.control {
            Some(socket) => Some(open_control(socket, daemon)?),
            None => None,
        };
        let metrics = match &args.metrics {
            Some(address) => Some(metrics::open(address, daemon)?),
            None => None,
        };
        Ok(Self { control, metrics })
    }

    /// Where the control socket is, if there is one.
    pub(crate) fn control_path(&self) -> Option<&Path> {
        self.control.as_ref().map(|(path, _)| path.as_path())
    }

    /// What people are told of the doors, in lines.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        if let Some(path) = self.control_path() {
            text += &format!("with a control socket at\n  {}\n", path.display());
        }
        if let Some(metrics) = &self.metrics {
            text += &format!("with metrics at\n  {}\n", metrics.place);
        }
        text
    }

    /// Lets nobody in any more; those who are inside stay. The files are gone afterwards.
    pub(crate) fn lock(&mut self) {
        if let Some((_, door)) = &mut self.control {
            door.lock();
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.door.lock();
        }
    }

    /// Cuts off whoever is inside.
    pub(crate) fn close(self) {
        if let Some((_, door)) = self.control {
            door.close();
        }
        if let Some(metrics) = self.metrics {
            metrics.door.close();
        }
    }
}

fn open_control(socket: &ControlSocket, daemon: &Arc<Daemon>) -> Result<(PathBuf, Door), Failure> {
    let path = match socket {
        ControlSocket::Auto => runtime_dir::control_socket().map_err(Failure::running)?,
        ControlSocket::At(path) => path.clone(),
    };
    let listener = control::bind(&path)?;
    let path = listener.path().to_owned();
    Ok((path, control::serve(listener, Arc::clone(daemon))?))
}

/// For an end that drops nothing.
pub(crate) struct Leftovers {
    private_dir: Option<PathBuf>,
    /// Removed with this, unless somebody else's are there by then.
    sockets: Vec<SocketFile>,
}

impl Leftovers {
    pub(crate) fn new(private_dir: Option<&Path>, doors: &Doors) -> Self {
        let metrics = doors.metrics.as_ref();
        let metrics_path = metrics.and_then(|metrics| metrics.path.as_deref());
        let paths = doors.control_path().into_iter().chain(metrics_path);
        Self {
            private_dir: private_dir.map(Path::to_owned),
            // One that has gone already leaves nothing behind.
            sockets: paths.flat_map(SocketFile::new).collect(),
        }
    }

    pub(crate) fn remove(self) {
        if let Some(Err(error)) = self.private_dir.map(std::fs::remove_dir_all) {
            tracing::warn!("something is left behind: {error}");
        }
        drop(self.sockets);
    }
}
