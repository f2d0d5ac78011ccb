//! What the code of a handle gets to work with.

use crate::check::ReservedKeys;
use crate::de;
use crate::error::{Problem, ResolveError};
use crate::handle::{Failure, ResourceKind};
use crate::path::JsonPath;
use crate::registry::{Found, ResourceResolver};
use crate::resource::Resource;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How deep descriptions may contain each other.
pub const LEVELS_MAX: usize = 64;

/// Resolves the descriptions inside a description, and knows where that one stands.
///
/// Shared: several futures may use one context at the same time.
#[derive(Debug, Clone)]
pub struct ResolveContext<'r> {
    resolver: &'r ResourceResolver,
    path: JsonPath,
    base_dir: Arc<Path>,
    /// How many descriptions contain this one.
    level: usize,
}

impl<'r> ResolveContext<'r> {
    pub(crate) fn new(resolver: &'r ResourceResolver, base_dir: PathBuf) -> Self {
        Self {
            resolver,
            path: JsonPath::root(),
            base_dir: base_dir.into(),
            level: 0,
        }
    }

    /// Builds what `resource` describes.
    ///
    /// Its place in the document is where it was read; for one made by code, the place of the description around it.
    ///
    /// # Errors
    ///
    /// A [`ResolveError`] with the full path of whatever was wrong, here or further down.
    pub async fn resolve<K: ResourceKind>(
        &self,
        resource: Resource<K>,
        input: K::Input,
    ) -> Result<K::Output, ResolveError> {
        self.resolve_rest(resource, Vec::new(), input).await
    }

    /// As [`resolve`](Self::resolve), for a description from which the keys `taken` have been taken out already.
    pub(crate) async fn resolve_rest<K: ResourceKind>(
        &self,
        resource: Resource<K>,
        mut taken: Vec<String>,
        input: K::Input,
    ) -> Result<K::Output, ResolveError> {
        let path = resource.origin_or(&self.path);
        if self.level >= LEVELS_MAX {
            let levels_max = LEVELS_MAX;
            return Err(ResolveError::new(path, Problem::TooDeep { levels_max }));
        }
        // Whoever reads the reserved keys may forget to, but they are never ignored.
        resource.reserved()?;
        let (id, mut fields) = resource.into_parts();
        let reserved = ReservedKeys::of::<K>();
        reserved.take(&mut fields);
        taken.extend_from_slice(reserved.names);

        let inner = Self {
            path: path.clone(),
            level: self.level + 1,
            ..self.clone()
        };
        let result = match self.resolver.find::<K>(&id) {
            Some(Found::Code(code)) => code.run(&inner, fields, taken, input).await,
            Some(Found::StandIn(stand_in)) => stand_in.run(&inner, &id, fields, taken, input).await,
            None => {
                let problem = self.resolver.unknown_type(K::NAME, id);
                return Err(ResolveError::new(path.key("type"), problem));
            }
        };
        result.map_err(|failure| locate(path, failure))
    }

    /// What all things share that one resolver builds: its value of type `T`, made when it is asked for first and kept as long as
    /// the resolver. For what several descriptions name in common, as limits of a group; another resolver has a value of its own.
    pub fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.resolver.shared()
    }

    /// The place of the description that is being resolved.
    pub fn path(&self) -> &JsonPath {
        &self.path
    }

    /// The directory that paths in the document are relative to. Empty: the working directory.
    pub fn base_dir(&self) -> &Path {
        &self.base_dir
    }

    /// A path from the document, relative to the [base directory](Self::base_dir) unless it is absolute.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base_dir.join(path)
    }

    /// The same context for descriptions read from a file in another directory.
    #[must_use]
    pub fn with_base_dir(&self, base_dir: impl Into<PathBuf>) -> Self {
        Self {
            base_dir: base_dir.into().into(),
            ..self.clone()
        }
    }

    /// An error that says what is wrong with the value of `field` of the description that is being resolved.
    pub fn bad_value(&self, field: &str, message: impl Into<String>) -> ResolveError {
        ResolveError::bad_value(self.path.key(field), message)
    }

    /// An error that blames the value of `field` for a failure.
    pub fn failed_at(&self, field: &str, source: impl Into<Failure>) -> ResolveError {
        locate(self.path.key(field), source.into())
    }
}

/// Gives a failure a path, unless it has one.
fn locate(path: JsonPath, failure: Failure) -> ResolveError {
    match failure.downcast::<ResolveError>() {
        Ok(error) => *error,
        Err(source) => ResolveError::new(path, Problem::Failed { source }),
    }
}

/// The data of a handle, from the fields of its description; `taken` are keys that were there besides.
pub(crate) fn handle_from<H: serde::de::DeserializeOwned>(
    cx: &ResolveContext<'_>,
    fields: serde_json::Map<String, serde_json::Value>,
    taken: &[String],
) -> Result<H, ResolveError> {
    de::from_map(fields, &cx.path, taken)
}
