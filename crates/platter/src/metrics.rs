//! Metrics for Prometheus and whatever reads its text form: the numbers of the inspection tree, over a tiny HTTP listener.
//!
//! They are described for their users in `docs/observability.md`, whose list a test holds against [`catalogue`].

mod catalogue;
mod http;
mod text;

use crate::daemon::Daemon;
use crate::door::{Door, Kind, Threshold};
use crate::exit::Failure;
use frontend_nbd::{ListenAddress, ListenError};
use futures_lite::future::block_on;
use local_socket::LocalListener;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where metrics are found, open.
pub(crate) struct MetricsDoor {
    /// For people: a URL, or the path of a socket.
    pub(crate) place: String,
    /// Of the socket, if it has a file.
    pub(crate) path: Option<PathBuf>,
    pub(crate) door: Door,
}

/// Answers at `address` until the door is closed.
///
/// # Errors
/// If nobody can listen there.
pub(crate) fn open(address: &ListenAddress, daemon: &Arc<Daemon>) -> Result<MetricsDoor, Failure> {
    let (threshold, place) = bind(address)?;
    let path = match &threshold {
        Threshold::Local(listener) => Some(listener.path().to_owned()),
        Threshold::Tcp(_) => None,
    };
    let kind = Kind {
        name: "metrics",
        clients_max: 16,
        full: http::BUSY,
        patience: Some(Duration::from_secs(10)),
    };
    let daemon = Arc::clone(daemon);
    let door = Door::open(kind, threshold, move |client| {
        if let Err(error) = http::serve(client, || page(&daemon)) {
            tracing::debug!("a metrics client is gone: {error}");
        }
    });
    let door = door.map_err(Failure::running)?;
    Ok(MetricsDoor { place, path, door })
}

fn bind(address: &ListenAddress) -> Result<(Threshold, String), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::running(format!("metrics: {error}"));
    let refused = |source| {
        let address = address.clone();
        failed(&ListenError::System { address, source })
    };
    match address {
        ListenAddress::Unix(path) => {
            let listener = LocalListener::bind(path).map_err(|error| failed(&error))?;
            let place = listener.path().display().to_string();
            Ok((Threshold::Local(listener), place))
        }
        ListenAddress::Tcp { host, port } => {
            if !address.is_local() {
                tracing::warn!(%address, "whoever reaches this address can read the metrics");
            }
            let listener = TcpListener::bind((host.as_str(), *port)).map_err(refused)?;
            listener.set_nonblocking(true).map_err(refused)?;
            let local = listener.local_addr().map_err(refused)?;
            Ok((Threshold::Tcp(listener), format!("http://{local}/metrics")))
        }
        _ => Err(failed(&format_args!(
            "{address}: this kind of address is not supported"
        ))),
    }
}

/// All metrics now.
fn page(daemon: &Daemon) -> String {
    let tree = block_on(inspect::inspect("", None, daemon));
    text::page(&tree.expect("the root can be shown"))
}
