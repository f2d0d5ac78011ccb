//! Arguments of the commands that make, look at and mend durable layers on their stores.

use crate::tools::Endpoint;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use disklayer_durable::{Role, Verify};
use resource::ByteSize;

/// What to do with a durable layer.
#[derive(Debug, Args)]
pub(crate) struct LayerArgs {
    #[command(subcommand)]
    pub(crate) action: LayerAction,
}

/// What to do with a durable layer.
#[derive(Debug, Subcommand)]
pub(crate) enum LayerAction {
    /// Make a store into an empty layer
    Create(LayerCreateArgs),
    /// Say what a layer is: size, role, what it lies on
    Info(LayerInfoArgs),
    /// Look for damage, and say how the layer was left
    Check(LayerCheckArgs),
    /// List what the layer holds: data, zeros, or nothing
    Map(LayerMapArgs),
    /// Give back the space that a layer does not need
    Compact(LayerCompactArgs),
    /// Give a layer another size
    Resize(LayerResizeArgs),
}

/// The store of a layer.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The disk that the layer is kept on, written as for `platter info`.
    ///
    /// What describes a stack with one durable layer (`durable:vm1.plt`, `CONFIG.json#EXPORT`) stands for the store of that layer.
    #[arg(value_name = "STORE")]
    pub(crate) store: Endpoint,
}

/// How to answer.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AnswerArgs {
    /// Show no progress, and print no summary
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What layer to make.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("extent").required(true)))]
pub(crate) struct LayerCreateArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// The size of the layer: bytes, or a number with K, M, G, T or P
    #[arg(long, value_name = "SIZE", group = "extent")]
    pub(crate) size: Option<ByteSize>,

    /// The disk that the layer will lie on, written as for `platter info` and opened read-only.
    ///
    /// The layer gets its size and its sector size, and is bound to it: above another disk it is refused.
    #[arg(long, value_name = "SRC", group = "extent")]
    pub(crate) lower: Option<Endpoint>,

    /// What the layer is for
    #[arg(long, value_enum, default_value_t = RoleArg::Overlay, value_name = "ROLE")]
    pub(crate) role: RoleArg,

    /// What the layer keeps checksums of
    ///
    /// With `data` what has rotted on the store is an error when it is read, or filled again in a cache. Writing over data that was left
    /// alone for a while takes a flush then.
    #[arg(long, value_enum, default_value_t = VerifyArg::Metadata, value_name = "WHAT")]
    pub(crate) verify: VerifyArg,

    /// Make it whatever the store holds: that is lost
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// What a layer keeps checksums of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum VerifyArg {
    /// What it records
    Metadata,
    /// That, and the data
    Data,
}

impl From<VerifyArg> for Verify {
    fn from(verify: VerifyArg) -> Self {
        match verify {
            VerifyArg::Metadata => Self::Metadata,
            VerifyArg::Data => Self::Data,
        }
    }
}

/// What a layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum RoleArg {
    /// To keep changes
    Overlay,
    /// To keep what is read from below
    ReadCache,
    /// To keep copies of what is written through it
    WriteThrough,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Overlay => Self::Overlay,
            RoleArg::ReadCache => Self::ReadCache,
            RoleArg::WriteThrough => Self::WriteThrough,
        }
    }
}

/// Which layer to describe.
#[derive(Debug, Args)]
pub(crate) struct LayerInfoArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which layer to check.
///
/// Exit code 0 if the layer is clean or was repaired, 5 if it was not closed, 6 if it is damaged.
#[derive(Debug, Args)]
pub(crate) struct LayerCheckArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Close a layer that was not closed, write anew what can be had from its copy, and take on record the checksums that a crash let be
    /// forgotten. Without it nothing is written
    #[arg(long)]
    pub(crate) repair: bool,

    /// Also make an overlay one that can be opened where something of it is lost, and say what that costs; a check without it says that before
    #[arg(long, requires = "repair")]
    pub(crate) accept_loss: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// Which layer to list.
#[derive(Debug, Args)]
pub(crate) struct LayerMapArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Print a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which layer to compact.
///
/// Data that is zero becomes zeros, which take no space; what holds no data is given back; the store becomes as short as it can be.
#[derive(Debug, Args)]
pub(crate) struct LayerCompactArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}

/// Which layer to resize.
///
/// What it gains reads zero, whatever lies below.
#[derive(Debug, Args)]
pub(crate) struct LayerResizeArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// The size that it is to have: bytes, or a number with K, M, G, T or P
    #[arg(value_name = "SIZE")]
    pub(crate) size: ByteSize,

    /// Let a smaller size be meant: what the layer holds beyond it is lost
    #[arg(long)]
    pub(crate) shrink: bool,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
}
