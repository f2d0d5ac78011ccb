//! What a kind and a type of that kind consist of.

use crate::context::ResolveContext;
use crate::error::ResolveError;
use crate::path::JsonPath;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why a handle could not be resolved. `?` makes one of any error; a [`ResolveError`](crate::ResolveError) passes through
/// with the path it has.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A kind of things that descriptions can describe: disks, layers. Never constructed.
pub trait ResourceKind: 'static {
    /// The name in messages and schemas, in the singular: `disk`. One kind has one name.
    const NAME: &'static str;

    /// Keys that every description of this kind may have, besides those of its type. They are taken out before the type sees
    /// the description; whoever holds the description reads them with [`Resource::reserved`](crate::Resource::reserved).
    ///
    /// Each field needs a default. [`NoReserved`] if there are none.
    type Reserved: DeserializeOwned + Serialize + JsonSchema;

    /// What the surroundings tell the new thing, besides its description.
    type Input: Send;

    /// The thing.
    type Output: Send;
}

/// No reserved keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoReserved {}

/// One type of a kind: the data of its description, and how the thing is built from it.
///
/// A struct with named fields; one without any is written `struct Nothing {}`. The fields' doc comments and defaults become the documentation and the JSON schema; the first paragraph of the type's
/// own doc comment is its summary. Keys that no field takes are refused without further ado. (`serde(flatten)` and
/// untagged enums hide the keys and paths from us: messages get worse, and unknown keys pass. Avoid them.)
#[async_trait]
pub trait ResourceHandle<K: ResourceKind>: DeserializeOwned + JsonSchema + Send + 'static {
    /// The value of the key `type`; snake_case.
    const ID: &'static str;

    /// What is wrong with the data beyond what its types say, as far as that can be seen without building: values that do not fit
    /// each other. `path` is the place of the description, to which the mistake's own is added.
    ///
    /// It is asked before [`resolve`](Self::resolve), and by [`ResourceResolver::check`](crate::ResourceResolver::check).
    ///
    /// # Errors
    ///
    /// The first mistake, mostly a [`ResolveError::bad_value`].
    fn check(&self, path: &JsonPath) -> Result<(), ResolveError> {
        let _ = path;
        Ok(())
    }

    /// Builds the thing. Descriptions inside this one are resolved with [`ResolveContext::resolve`], several at once if
    /// they do not depend on each other.
    ///
    /// A dropped future leaves nothing behind that the handle's own documentation does not mention.
    ///
    /// # Errors
    ///
    /// Whatever went wrong; [`ResolveContext::bad_value`] and [`ResolveContext::failed_at`] point at one key.
    async fn resolve(self, cx: &ResolveContext<'_>, input: K::Input) -> Result<K::Output, Failure>;
}
