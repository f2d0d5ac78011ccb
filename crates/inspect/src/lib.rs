//! Look into a running object as a tree, and change chosen values of it.
//!
//! Foundation (row 1): knows nothing of disks, sockets or executors. An object implements [`Inspect`],
//! mostly by `#[derive(Inspect)]`; a tool asks with [`inspect`] and changes with [`update`]. What is counted on hot paths
//! can live in [`Counters`] and in a [`Histogram`].
//!
//! ```
//! use inspect::Inspect;
//!
//! #[derive(Inspect)]
//! struct Cache { hits: u64, #[inspect(hex)] mask: u32 }
//!
//! let cache = Cache { hits: 3, mask: 0xff };
//! let tree = futures_lite::future::block_on(inspect::inspect("", None, &cache)).unwrap();
//! assert_eq!(tree, serde_json::json!({ "hits": 3, "mask": "0xff" }));
//! ```
//!
//! **Paths** are the names of the parts, joined by `/`: `layers/0/backing`. The empty path is the object
//! itself; one `/` in front or at the end is ignored. A `/` or `~` inside a name is written as in a JSON
//! pointer: `~1` and `~0`. Names are snake_case; elements of a list are named by their index.
//!
//! **Depth** counts the levels shown below the part that was asked for. A part with parts of its own that
//! lies at the limit is shown as the [marker](is_not_shown) `{"...": "not shown"}` and is not computed.
//!
//! It guarantees that nothing is computed for parts that were not asked for, and that no path or value, however
//! hostile, panics or recurses deeper than [`LEVELS_MAX`]. Parts with the same name: the first one counts.
//!
//! It does not promise one instant for the whole tree: an object answers part by part while it runs. Objects
//! answer at once, from what they know; nothing here waits for I/O. It does not transport anything:
//! the daemon does. Who may look or change is the caller's business too.
//!
//! On failure [`InspectError`] names the path and the reason, and for a wrong path what exists in its place. One
//! value that cannot be read does not spoil the tree around it: it is shown as `{"error": reason}`.

// The derive writes `::inspect::...`, also in this crate's own tests.
#[cfg(test)]
extern crate self as inspect;

mod adapters;
mod counter;
mod error;
mod histogram;
mod impls;
mod path;
mod request;
mod response;

pub use adapters::{
    AsAdhoc, AsDebug, AsDeref, AsDisplay, AsHex, ByIndex, ByKey, adhoc, as_debug, as_deref,
    as_display, as_hex, iter_by_index, iter_by_key,
};
pub use counter::Counters;
pub use error::{InspectError, Reason};
pub use histogram::{Histogram, HistogramSnapshot};
/// Implements [`Inspect`](trait@Inspect) for a struct (one part for each field) or an enum.
///
/// On a field, `#[inspect(...)]` takes:
///
/// | attribute | the field is shown |
/// | --- | --- |
/// | `skip` | not at all |
/// | `rename = "x"` | as `x` instead of its own name |
/// | `flatten` | as parts of this object, without a level of its own |
/// | `hex`, `display`, `debug` | as a string, by `LowerHex` (with `0x`), `Display` or `Debug` |
/// | `iter_by_index` | as a list of the items that `&field` iterates over |
/// | `iter_by_key` | as one part for each `(key, value)` that `&field` iterates over |
/// | `with = "f"` | as the value of `f(&field)`, which implements `Inspect`; `f` is a path or a closure |
/// | `change = "f"` | as a value that can be changed: `f(&field, new: Option<&str>) -> Result<V, E>`, see [`Request::value_mut_with`] |
///
/// On the type:
///
/// | attribute | meaning |
/// | --- | --- |
/// | `extra = "f"` | `f(&self, &mut Response<'_>)` adds more parts after the fields (structs) |
/// | `transparent` | the only field that is not skipped answers in place of the struct |
/// | `display`, `debug` | the whole type is one string |
/// | `tag = "x"` | an enum with data: the name of the variant is the part `x`, beside the variant's fields |
/// | `bound = "T: B"` | replaces the bounds derived for type parameters |
///
/// An enum of unit variants is a string: the variant's name in snake_case, or what `rename` says.
pub use inspect_derive::Inspect;
pub use request::{LEVELS_MAX, Request};
pub use response::Response;

use request::Query;
use serde_json::Value;

/// An object that shows its state as a tree.
///
/// An implementation answers the request once: with a single [value](Request::value), with
/// [parts](Request::respond), or, by [ignoring](Request::ignore) or dropping it, not at all. It is called on the
/// thread of whoever looks, while the object works: it should neither block nor hold a lock for long.
///
/// ```
/// # use inspect::{Inspect, Request};
/// struct Port { name: String, open: bool }
///
/// impl Inspect for Port {
///     fn inspect(&self, req: Request<'_>) {
///         req.respond().field("name", &self.name).field("open", &self.open);
///     }
/// }
/// ```
pub trait Inspect {
    /// Answers `req`.
    fn inspect(&self, req: Request<'_>);
}

/// Shows the part of `obj` at `path`, and at most `depth` levels below it (`None`: all there are).
///
/// With depth 0 a single value is still shown; a part that has parts is only the [marker](is_not_shown). An object that
/// ignores the request is `null`. Dropping the future has no effect: nothing is changed by looking.
///
/// # Errors
///
/// [`InspectError::NotFound`] and [`InspectError::TooDeep`] for the path; [`InspectError::Read`] if the part asked for
/// failed to read.
pub async fn inspect(
    path: &str,
    depth: Option<usize>,
    obj: &(impl Inspect + ?Sized),
) -> Result<Value, InspectError> {
    let names = path::parse(path)?;
    Query::show(&names, depth).run(obj)
}

/// Changes the value at `path` of `obj` to what the text `value` says, and returns the value after that.
///
/// Each value reads the text its own way; numbers are usually decimal. A dropped future has either not started or is
/// complete.
///
/// # Errors
///
/// [`InspectError::NotFound`] and [`InspectError::TooDeep`] for the path; [`InspectError::NotMutable`] if the part is not
/// made to be changed; [`InspectError::Update`] if it refused the new value.
pub async fn update(
    path: &str,
    value: &str,
    obj: &(impl Inspect + ?Sized),
) -> Result<Value, InspectError> {
    let names = path::parse(path)?;
    Query::change(&names, value).run(obj)
}

/// Whether `value` stands for parts that the depth limit left out: the object `{"...": "not shown"}`.
pub fn is_not_shown(value: &Value) -> bool {
    *value == request::not_shown()
}

/// What the derive macro's output calls. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    /// Calls `f` with types flowing from the argument to the closure, so that a closure in an attribute needs no
    /// annotations.
    pub fn apply<'a, T: ?Sized, R>(field: &'a T, f: impl FnOnce(&'a T) -> R) -> R {
        f(field)
    }

    /// As [`apply`], for a value that can be changed.
    pub fn apply_change<'a, T: ?Sized, V, E>(
        field: &'a T,
        new: Option<&str>,
        f: impl FnOnce(&'a T, Option<&str>) -> Result<V, E>,
    ) -> Result<V, E> {
        f(field, new)
    }
}
