//! A layer to be: opened, and made if need be, once it is known what it lies on.

use crate::blank::{occupied, was_layer};
use crate::create::{FormatOptions, format};
use crate::error::OpenError;
use crate::format::{Binding, Layout, LowerDisk, Role, Superblock, Verify};
use crate::layer::DurableLayer;
use crate::open::{DurableOptions, newest};
use disk_backend::Disk;
use disk_layered::{DiskLayerMetadata, LayerAttach};

/// A [`DurableLayer`] to be. What it lies on is recorded, and found again the next time.
///
/// A layer that keeps changes is refused above anything else than what it was made for, and above that if its content has changed, as far as it
/// has a [stamp](disk_backend::ContentStamp), unless it is forced. A cache is emptied
/// then, and also if it cannot be opened, or if it is written through and was not closed: its only trace is a warning. Nothing else is
/// written over: a layer is made only of a store that holds nothing.
#[derive(Debug)]
pub struct LazyDurableLayer {
    store: Disk,
    options: DurableOptions,
    role: Role,
    verify: Verify,
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
            verify: Verify::Metadata,
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

    /// Only if it keeps checksums of at least that; made so, if it is made.
    #[must_use]
    pub fn that_verifies(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Above whatever it is put on: that is recorded before the first change is made above it, and when the layer is closed.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.force = true;
        self
    }

    /// Made like this if the store holds no layer, and nothing else: its first MiB is zero. A size of 0 is that of the layer below.
    #[must_use]
    pub fn created(mut self, options: FormatOptions) -> Self {
        self.create = Some(options);
        self
    }

    /// Makes the layer, in place of one with this layout if one was found. Nothing is made of a store with which the layer could not lie there.
    async fn make(
        &self,
        found: Option<Layout>,
        lower: Option<DiskLayerMetadata>,
    ) -> Result<DurableLayer, OpenError> {
        let store = self.store.sector_size();
        if let Some(lower) = lower
            .map(|lower| lower.sector_size)
            .filter(|lower| *lower != store)
        {
            return Err(OpenError::SectorSizeBelow { store, lower });
        }
        format(&self.store, &self.creation(found, lower)).await?;
        DurableLayer::open(self.store.clone(), &self.options).await
    }

    fn is_cache(&self) -> bool {
        self.role != Role::Overlay
    }

    /// How it is made above `lower`; in place of a layer with this layout, if one was found.
    fn creation(&self, found: Option<Layout>, lower: Option<DiskLayerMetadata>) -> FormatOptions {
        let mut options = match &self.create {
            Some(options) => options.clone(),
            None => FormatOptions::new(0),
        };
        options.role = self.role;
        options.binding = Binding::of(lower);
        options.verify = options.verify.max(self.verify);
        if let Some(found) = found.filter(|found| found.sector_size == self.store.sector_size()) {
            options.log_blocks = Some(found.log_blocks);
            options.verify = options.verify.max(found.verify);
            if options.verify == found.verify {
                options.stripe_sectors = Some(found.stripe_sectors);
            }
        }
        if options.sector_count == 0 {
            options.sector_count = lower.map_or(0, |lower| lower.sector_count);
        }
        options
    }

    /// What is wrong with what was found, if it is.
    fn objection(&self, found: &Superblock, lower: &Binding) -> Option<OpenError> {
        let is_unclean = self.role == Role::WriteThrough && found.is_in_use;
        if is_unclean {
            return Some(OpenError::NotClosed);
        }
        match self.force {
            true => None,
            false => found.binding.objection(lower),
        }
    }

    /// Opens what the store holds. Nothing is written.
    async fn find(&self, lower: &Binding) -> Result<Held, OpenError> {
        let found = match newest(&self.store).await {
            Ok((found, _)) => found,
            Err(error) => return self.without_superblock(error).await,
        };
        // Before all else: nothing but a cache is ever emptied.
        if found.role != self.role {
            return Err(OpenError::Role {
                recorded: found.role,
                asked: self.role,
            });
        }
        let useless = |reason| Ok(Held::Useless(reason, Some(found.layout)));
        if found.layout.verify < self.verify {
            return match self.is_cache() {
                true => useless("it has no checksums of its data".to_owned()),
                false => Err(OpenError::Unverified),
            };
        }
        match self.objection(&found, lower) {
            Some(reason) if self.is_cache() => return useless(reason.to_string()),
            Some(error) => return Err(error),
            None => {}
        }
        match DurableLayer::open(self.store.clone(), &self.options).await {
            Ok(layer) => Ok(Held::Layer(layer)),
            Err(error) if self.is_cache() && error.is_damage() => useless(error.to_string()),
            Err(error) => Err(error),
        }
    }

    /// What a store is without a superblock: a layer is made of it only if it holds nothing, and emptied only if it is a cache's.
    async fn without_superblock(&self, error: OpenError) -> Result<Held, OpenError> {
        let is_created = self.create.is_some();
        match error {
            OpenError::NotALayer if is_created => match occupied(&self.store).await? {
                None => Ok(Held::Nothing),
                Some(offset) => Err(OpenError::NotEmpty(offset)),
            },
            OpenError::Superblocks { .. } if self.is_cache() && was_layer(&self.store).await? => {
                Ok(Held::Useless(error.to_string(), None))
            }
            OpenError::Superblocks { .. }
                if is_created && occupied(&self.store).await?.is_none() =>
            {
                Ok(Held::Nothing)
            }
            error => Err(error),
        }
    }
}

/// What a store holds.
enum Held {
    Layer(DurableLayer),
    Nothing,
    /// A cache that is of no use any more: why, and its layout if that is known.
    Useless(String, Option<Layout>),
}

impl LayerAttach for LazyDurableLayer {
    type Error = OpenError;
    type Layer = DurableLayer;

    async fn attach(self, lower: Option<DiskLayerMetadata>) -> Result<DurableLayer, OpenError> {
        if self.is_cache() && lower.is_none() {
            return Err(OpenError::CopyOfNothing(self.role));
        }
        let binding = Binding::of(lower);
        let layer = match self.find(&binding).await? {
            Held::Layer(layer) => layer,
            Held::Useless(reason, layout) => {
                tracing::warn!(%reason, "a cache is emptied, and will be filled again");
                self.make(layout, lower).await?
            }
            Held::Nothing => self.make(None, lower).await?,
        };
        if let Some(lower) = lower {
            layer.core().lower_mark(lower.sector_count);
        }
        let recorded = layer.core().journal.superblock().binding;
        layer.bind(match self.force {
            true => binding,
            false => recorded.learnt(binding),
        });
        Ok(layer)
    }
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
            stamp: lower.content_stamp,
        })
    }

    /// Why this, which is recorded, cannot be what was found. Where one has no identity, or no stamp, the rest tells.
    pub(crate) fn objection(&self, found: &Self) -> Option<OpenError> {
        let (Self::Disk(one), Self::Disk(other)) = (self, found) else {
            let is_same = *self == Self::Unknown || self == found;
            return (!is_same).then(|| self.bound(found));
        };
        let ids = one.disk_id.zip(other.disk_id);
        let is_same = one.sector_count == other.sector_count
            && one.sector_size == other.sector_size
            && ids.is_none_or(|(one, other)| one == other);
        if !is_same {
            return Some(self.bound(found));
        }
        let (recorded, found) = one.stamp.zip(other.stamp)?;
        (recorded != found).then_some(OpenError::Changed { recorded, found })
    }

    fn bound(&self, found: &Self) -> OpenError {
        OpenError::Bound {
            recorded: self.to_string(),
            found: found.to_string(),
        }
    }

    /// What is to be recorded, this having been recorded, and `found` being no other. What is not known this time is not forgotten: else
    /// whatever came next would be taken for the same.
    fn learnt(self, found: Self) -> Self {
        let (Self::Disk(recorded), Self::Disk(found)) = (self, found) else {
            return found;
        };
        Self::Disk(LowerDisk {
            disk_id: found.disk_id.or(recorded.disk_id),
            stamp: found.stamp.or(recorded.stamp),
            ..found
        })
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
                if let Some(id) = lower.disk_id {
                    write!(f, " with the identity {:032x}", u128::from_be_bytes(id))?;
                }
                match lower.stamp {
                    Some(stamp) => write!(f, " with the content stamp \"{stamp}\""),
                    None => Ok(()),
                }
            }
        }
    }
}
