//! Where a daemon listens: at sockets that it makes, that a service manager made, and that the daemon before it had.

use crate::daemon::Sockets;
use crate::exit::Failure;
use crate::handover::TakenSocket;
use crate::runtime_dir::runtime_dir;
use frontend_nbd::{ListenAddress, Server};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Sockets from elsewhere.
pub(crate) struct Given {
    /// By the service manager.
    pub(crate) activated: Vec<OwnedFd>,
    /// By the daemon before.
    pub(crate) taken: Vec<TakenSocket>,
}

impl Given {
    pub(crate) fn is_empty(&self) -> bool {
        self.activated.is_empty() && self.taken.is_empty()
    }
}

/// Listens everywhere; clients that connect from now on wait until they are served. Returns where that is.
///
/// Without addresses that were asked for, and without sockets from elsewhere, it is a socket in `private_dir`, or in the runtime
/// directory.
///
/// # Errors
/// If that is not possible everywhere.
pub(crate) fn listen(
    server: &mut Server,
    wanted: &[ListenAddress],
    given: Given,
    private_dir: Option<&Path>,
) -> Result<(Vec<ListenAddress>, Sockets), Failure> {
    let mut sockets = Sockets::default();
    let mut addresses = Vec::new();
    for socket in given.activated {
        let address = server.adopt(socket).map_err(Failure::running)?;
        sockets.borrowed.push(address.clone());
        addresses.push(address);
    }
    for taken in given.taken {
        let is_wanted = |wanted: &ListenAddress| is_same(wanted, &taken.address);
        if !wanted.is_empty() && !wanted.iter().any(is_wanted) {
            // Its file goes with it, if it is ours to remove.
            tracing::info!(address = %taken.address, "nobody listens there any more");
            continue;
        }
        let adopted = server.adopt(taken.socket).map_err(Failure::running)?;
        match taken.file {
            Some(file) => sockets.files.lock().push(file),
            None => sockets.borrowed.push(adopted.clone()),
        }
        sockets.renamed.push((adopted, taken.address.clone()));
        addresses.push(taken.address);
    }
    for address in wanted {
        if !addresses.iter().any(|adopted| is_same(address, adopted)) {
            addresses.push(server.listen(address).map_err(Failure::running)?);
        }
    }
    if addresses.is_empty() {
        let address = ListenAddress::Unix(default_socket(private_dir)?);
        addresses.push(server.listen(&address).map_err(Failure::running)?);
    }
    Ok((addresses, sockets))
}

/// Whether both are the same place, however it is written.
fn is_same(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => {
            let absolute = |path: &Path| std::path::absolute(path).ok();
            absolute(one) == absolute(other)
        }
        _ => one == other,
    }
}

fn default_socket(private_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let dir = match private_dir {
        Some(dir) => dir.to_owned(),
        None => runtime_dir().map_err(Failure::running)?,
    };
    Ok(dir.join("platter.sock"))
}
