//! Arguments of `platter serve`.

use clap::{Args, ValueEnum};
use disk_resolver::LayerSpec;
use frontend_nbd::ListenAddress;
use std::path::PathBuf;

/// What to serve, and where.
///
/// Without a configuration and without layers: a RAM disk of 1 GiB.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A configuration: a JSON document with `exports`, or one disk. Paths in it are relative to it
    #[arg(value_name = "CONFIG.json", conflicts_with = "layers")]
    pub(crate) config: Option<PathBuf>,

    /// A layer of the disk, top first; repeatable.
    ///
    /// `ram`, `ram:1G`, `file:base.raw`, `file:base.raw,ro`, `file:new.raw,create=true,size=10G`, or a JSON object. The top
    /// layer takes the writes; the layers below are opened read-only.
    #[arg(long = "layer", value_name = "SPEC")]
    pub(crate) layers: Vec<LayerSpec>,

    /// Where to listen: `unix:PATH` or `tcp:HOST:PORT` (`tcp:PORT` is loopback only); repeatable.
    ///
    /// Without --tls-certificates whoever can connect can read and write. A Unix socket is only for its owner.
    /// Default: what the configuration says, or a Unix socket in the runtime directory.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<ListenAddress>,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,

    /// Refuse writes to every export
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Serve while this command runs, then stop.
    ///
    /// It is given to `sh -c`, and finds the URI of the first export in PLATTER_URI, and the path of the Unix socket, if
    /// there is one, in PLATTER_SOCKET. Without --listen, or addresses in the configuration, the socket is a private one.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) run: Option<String>,

    /// Listen at a Unix socket for `inspect`, `set`, `export` and `resize`; `auto` chooses one in the runtime directory.
    ///
    /// It is only for its owner: whoever can connect can look into the daemon and change what it serves. `auto` stands for
    /// platter-PID.control; the commands find it by themselves if there is only one.
    #[arg(long, value_name = "SOCKET", value_parser = ControlSocket::parse)]
    pub(crate) control: Option<ControlSocket>,

    /// Answer GET /metrics in Prometheus' text form: at `tcp:PORT`, which is loopback only, `tcp:HOST:PORT` or `unix:PATH`
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<ListenAddress>,

    /// Follow a running daemon, asked over its control socket: serve at its sockets, and open the disks when it has let go of them.
    ///
    /// No client is refused: who connects meanwhile waits. The connections of the old daemon's clients end in order. With
    /// --listen, or addresses in the configuration, only those of its sockets are kept that are named there.
    #[arg(long, value_name = "SOCKET", conflicts_with = "run")]
    pub(crate) take_over: Option<PathBuf>,

    /// Write a line to this descriptor, and close it, when clients can connect
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) ready_fd: Option<i32>,
}

/// Who the server is, and who its clients are.
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// Use TLS, with the certificates in this folder.
    ///
    /// The names are those that QEMU uses: `server-cert.pem`, `server-key.pem`, and with --tls-verify-peer `ca-cert.pem`.
    #[arg(long, value_name = "DIR")]
    pub(crate) tls_certificates: Option<PathBuf>,

    /// Whether clients must use TLS
    #[arg(long, value_enum, default_value_t = TlsMode::Required, value_name = "MODE", requires = "tls_certificates")]
    pub(crate) tls: TlsMode,

    /// Let in only clients with a certificate that the authority in `ca-cert.pem` has signed
    #[arg(long, requires = "tls_certificates")]
    pub(crate) tls_verify_peer: bool,
}

/// Whether clients must use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsMode {
    /// Clients without TLS are refused
    Required,
    /// Clients may do without
    Optional,
}

/// Where to listen for commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ControlSocket {
    /// In the runtime directory.
    Auto,
    At(PathBuf),
}

impl ControlSocket {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "" => Err("the path is missing".to_owned()),
            path => Ok(Self::At(path.into())),
        }
    }
}
