//! A layer to be: opened, and made if need be, once it is known what it lies on.

use crate::create::{FormatOptions, format};
use crate::error::OpenError;
use crate::format::{Binding, LOG_OFFSET, LowerDisk, Role, Superblock};
use crate::layer::DurableLayer;
use crate::open::{DurableOptions, superblock};
use disk_backend::{Disk, DiskError};
use disk_layered::{DiskLayerMetadata, LayerAttach};
use scsi_buffers::HostBuffers;

/// A [`DurableLayer`] to be. What it lies on is recorded, and found again the next time.
///
/// A layer that keeps changes is refused above anything else than what it was made for, unless it is forced. A cache is emptied
/// then, and also if it cannot be opened, or if it is written through and was not closed: its only trace is a warning.
#[derive(Debug)]
pub struct LazyDurableLayer {
    store: Disk,
    options: DurableOptions,
    role: Role,
    force: bool,
    create: Option<FormatOptions>,
}

impl LazyDurableLayer {
    /// The layer on a store, which keeps changes.
    pub fn new(store: Disk) -> Self {
        Self {
            store,
            options: DurableOptions::default(),
            role: Role::Overlay,
            force: false,
            create: None,
        }
    }

    /// With these options.
    #[must_use]
    pub fn with_options(mut self, options: DurableOptions) -> Self {
        self.options = options;
        self
    }

    /// For another use.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Above whatever it is put on: that is recorded from then on.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.force = true;
        self
    }

    /// Made like this if the store holds no layer. A size of 0 is that of the layer below.
    #[must_use]
    pub fn created(mut self, options: FormatOptions) -> Self {
        self.create = Some(options);
        self
    }

    /// How it is made anew above `lower`, if it may be.
    fn creation(
        &self,
        found: Option<&Superblock>,
        lower: Option<DiskLayerMetadata>,
    ) -> Option<FormatOptions> {
        let mut options = self.create.clone();
        if self.role != Role::Overlay {
            // A cache can always be made anew.
            options = options.or_else(|| Some(FormatOptions::new(0)));
        }
        let mut options = options?;
        options.role = self.role;
        if let Some(found) = found {
            options.stripe_sectors = Some(found.layout.stripe_sectors);
            options.log_blocks = Some(found.layout.log_blocks);
        }
        if options.sector_count == 0 {
            options.sector_count = lower.map_or(0, |lower| lower.sector_count);
        }
        Some(options)
    }

    /// What is wrong with what was found, if it is.
    fn objection(&self, found: &Superblock, lower: &Binding) -> Option<String> {
        let is_unclean = self.role == Role::WriteThrough && found.is_in_use;
        if is_unclean {
            return Some("it was not closed".to_owned());
        }
        let is_bound = found.binding == Binding::Unknown || found.binding.is_same(lower);
        (!is_bound && !self.force).then(|| format!("it was made for {}", found.binding))
    }
}

impl LayerAttach for LazyDurableLayer {
    type Error = OpenError;
    type Layer = DurableLayer;

    async fn attach(self, lower: Option<DiskLayerMetadata>) -> Result<DurableLayer, OpenError> {
        let binding = Binding::of(lower);
        let found = superblock(&self.store).await.map(|(found, _)| found);
        let reason = match &found {
            Ok(found) if found.role != self.role => {
                return Err(OpenError::Role {
                    recorded: found.role,
                    asked: self.role,
                });
            }
            Ok(found) => match self.objection(found, &binding) {
                None => None,
                Some(reason) if self.role != Role::Overlay => Some(reason),
                Some(_) => {
                    return Err(OpenError::Bound {
                        recorded: found.binding.to_string(),
                        found: binding.to_string(),
                    });
                }
            },
            Err(OpenError::NotALayer) if self.create.is_some() => {
                if let Some(offset) = occupied(&self.store).await? {
                    return Err(OpenError::NotEmpty(offset));
                }
                Some(String::new())
            }
            // What a newer program keeps is not ours to throw away.
            Err(OpenError::Store(_) | OpenError::Newer(_)) => None,
            Err(error) if self.role != Role::Overlay => Some(error.to_string()),
            Err(_) => None,
        };
        let mut layer = None;
        let mut reason = reason;
        if reason.is_none() {
            match DurableLayer::open(self.store.clone(), &self.options).await {
                Ok(opened) => layer = Some(opened),
                Err(error @ (OpenError::Store(_) | OpenError::Newer(_))) => return Err(error),
                Err(error) if self.role == Role::Overlay => return Err(error),
                Err(error) => reason = Some(error.to_string()),
            }
        }
        let layer = match (layer, self.creation(found.as_ref().ok(), lower)) {
            (Some(layer), _) => layer,
            (None, Some(options)) => {
                let reason = reason.unwrap_or_default();
                if !reason.is_empty() {
                    tracing::warn!(%reason, "a cache is emptied, and will be filled again");
                }
                format(&self.store, &options).await?;
                DurableLayer::open(self.store, &self.options).await?
            }
            (None, None) => return Err(OpenError::NotALayer),
        };
        layer.bind(binding);
        Ok(layer)
    }
}

/// Where there is something in the place of the superblocks: what most disks begin with is there, too.
async fn occupied(store: &Disk) -> Result<Option<u64>, DiskError> {
    let len = (store.sector_count() << store.sector_shift()).min(LOG_OFFSET);
    let mut bytes = vec![0; len as usize];
    let host = HostBuffers::from_mut(&mut bytes);
    store.read_vectored(&host.buffers(), 0).await?;
    drop(host);
    let first = bytes.iter().position(|byte| *byte != 0);
    Ok(first.map(|first| first as u64))
}

impl Binding {
    /// What a layer is told that it lies on.
    pub(crate) fn of(lower: Option<DiskLayerMetadata>) -> Self {
        let Some(lower) = lower else {
            return Self::Nothing;
        };
        Self::Disk(LowerDisk {
            disk_id: lower.disk_id,
            sector_count: lower.sector_count,
            sector_size: lower.sector_size,
            stamp: [0; 32],
        })
    }

    /// Whether it may be the same. Where one has no identity, or no stamp, the rest tells.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (Self::Disk(one), Self::Disk(other)) = (self, other) else {
            return self == other;
        };
        let has_stamps = one.stamp != [0; 32] && other.stamp != [0; 32];
        let ids = one.disk_id.zip(other.disk_id);
        one.sector_count == other.sector_count
            && one.sector_size == other.sector_size
            && ids.is_none_or(|(one, other)| one == other)
            && (!has_stamps || one.stamp == other.stamp)
    }
}

impl std::fmt::Display for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => write!(f, "anything"),
            Self::Nothing => write!(f, "nothing"),
            Self::Disk(lower) => {
                let (count, size) = (lower.sector_count, lower.sector_size);
                write!(f, "a disk of {count} sectors of {size} bytes")?;
                match lower.disk_id {
                    Some(id) => write!(f, " with the identity {:032x}", u128::from_be_bytes(id)),
                    None => Ok(()),
                }
            }
        }
    }
}
