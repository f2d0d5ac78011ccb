//! What was asked for, by a configuration or on the command line.

use crate::cli::ServeArgs;
use crate::exit::Failure;
use disk_file::OpenError;
use disk_resolver::{Config, ConfigError, LayerSpec, OpenExport};
use frontend_nbd::ListenAddress;
use futures_lite::future::block_on;
use resource::{MISTAKES_MAX, ResourceResolver, Segment};
use std::error::Error;
use std::path::{Path, PathBuf};

/// What is served if nothing was asked for.
const DEFAULT_LAYER: &str = "ram:1G";

/// The disks to be, and where they are to be offered.
pub(crate) struct Plan {
    pub(crate) resolver: ResourceResolver,
    config: Config,
    pub(crate) read_only: bool,
    /// Empty if nobody said.
    pub(crate) listen: Vec<ListenAddress>,
}

impl Plan {
    /// Addresses on the command line replace those of the configuration.
    pub(crate) fn for_serving(args: &ServeArgs) -> Result<Self, Failure> {
        let resolver = disk_resolver::resolver();
        let config = match &args.config {
            Some(path) => Config::read(path),
            None => Config::from_layers(&resolver, layers(args)),
        };
        let plan = Self::new(resolver, config, args.read_only)?;
        match args.listen.is_empty() {
            true => Ok(plan),
            false => Ok(Self {
                listen: args.listen.clone(),
                ..plan
            }),
        }
    }

    /// Nothing in it will be written.
    pub(crate) fn for_checking(config: &Path) -> Result<Self, Failure> {
        let plan = Self::new(disk_resolver::resolver(), Config::read(config), false)?;
        Ok(Self {
            read_only: true,
            ..plan
        })
    }

    fn new(
        resolver: ResourceResolver,
        config: Result<Config, ConfigError>,
        read_only: bool,
    ) -> Result<Self, Failure> {
        let config = config.map_err(Failure::configuration)?;
        let mut wrong = Vec::new();
        let mut listen = Vec::new();
        for (index, address) in config.document().listen.iter().enumerate() {
            match address.parse::<ListenAddress>() {
                Ok(address) => listen.push(address),
                Err(_) if wrong.len() == MISTAKES_MAX => break,
                Err(error) => wrong.push(config.wrong_address(index, error.to_string())),
            }
        }
        // What can be seen without opening anything is said at once.
        wrong.extend(config.check(&resolver, read_only));
        match wrong.is_empty() {
            true => Ok(Self {
                resolver,
                config,
                read_only,
                listen,
            }),
            false => Err(Failure::Configuration(messages(&wrong))),
        }
    }

    /// Opens every disk.
    pub(crate) fn open(&self) -> Result<Vec<OpenExport>, Failure> {
        block_on(self.config.open(&self.resolver, self.read_only)).map_err(Failure::configuration)
    }
}

/// A disk that was opened for a check, or the image that serving it would make.
pub(crate) enum Tried {
    Open(OpenExport),
    ToBeCreated { name: String, path: PathBuf },
}

impl Plan {
    /// Opens every disk, as far as that can be without making anything.
    pub(crate) fn try_open(&self) -> Result<Vec<Tried>, Failure> {
        let exports = self.config.document().exports.iter().enumerate();
        let tried = exports.map(|(index, export)| {
            let opening = self
                .config
                .open_export(&self.resolver, index, self.read_only);
            block_on(opening).map(Tried::Open).or_else(|error| {
                let path = (!export.read_only).then(|| image_to_make(&error)).flatten();
                let name = export.name.clone();
                path.map(|path| Tried::ToBeCreated { name, path })
                    .ok_or_else(|| Failure::configuration(error))
            })
        });
        tried.collect()
    }
}

/// The image whose absence is the error, if it would be made by who opens the disk for writing: only the top layer is.
fn image_to_make(error: &ConfigError) -> Option<PathBuf> {
    let ConfigError::Wrong { source, .. } = error else {
        return None;
    };
    let segments = source.path().segments();
    let is_below = segments
        .windows(2)
        .any(|pair| matches!(pair, [Segment::Key(key), Segment::Index(1..)] if *key == *"layers"));
    let mut cause: Option<&(dyn Error + 'static)> = Some(source);
    while let Some(error) = cause {
        if let Some(OpenError::CreateReadOnly(path)) = error.downcast_ref() {
            return (!is_below).then(|| path.clone());
        }
        cause = error.source();
    }
    None
}

/// One line for each mistake, as far as anybody wants to read.
fn messages(wrong: &[ConfigError]) -> Vec<String> {
    let shown = wrong.iter().take(MISTAKES_MAX);
    let mut messages: Vec<String> = shown.map(ToString::to_string).collect();
    if wrong.len() >= MISTAKES_MAX {
        messages.push(format!(
            "these are the first {MISTAKES_MAX} mistakes; there may be more"
        ));
    }
    messages
}

fn layers(args: &ServeArgs) -> Vec<LayerSpec> {
    match args.layers.is_empty() {
        true => vec![DEFAULT_LAYER.parse().expect("the default is well written")],
        false => args.layers.clone(),
    }
}
