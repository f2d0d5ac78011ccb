//! Typed, opaque descriptions of things, and the resolver that builds the things.
//!
//! Foundation (row 1): knows nothing of disks. A [`ResourceKind`] says what is built (a disk, a layer); a
//! [`ResourceHandle`] is one type of it: plain data from JSON, and the code that builds from it. A [`Resource<K>`] is a
//! description whose type is only known at run time: `{ "type": "...", ... }`. The [`ResourceResolver`] finds the code.
//!
//! ```
//! # use resource::*;
//! # struct Greeting;
//! # impl ResourceKind for Greeting {
//! #     const NAME: &'static str = "greeting";
//! #     type Reserved = NoReserved;
//! #     type Input = ();
//! #     type Output = String;
//! # }
//! # #[derive(serde::Deserialize, schemars::JsonSchema)]
//! # struct Hello { name: String }
//! # #[async_trait]
//! # impl ResourceHandle<Greeting> for Hello {
//! #     const ID: &'static str = "hello";
//! #     async fn resolve(self, _: &ResolveContext<'_>, (): ()) -> Result<String, Failure> {
//! #         Ok(format!("Hello {}!", self.name))
//! #     }
//! # }
//! resource::register! { Hello: Greeting }
//!
//! let resolver = ResourceResolver::linked();
//! let described: Resource<Greeting> = from_str(r#"{ "type": "hello", "name": "disk" }"#).unwrap();
//! let built = futures_lite::future::block_on(resolver.context("").resolve(described, ()));
//! assert_eq!(built.unwrap(), "Hello disk!");
//! ```
//!
//! It guarantees that a wrong description is an error, never ignored: unknown types, unknown or repeated keys, missing and
//! wrong values all give a [`ResolveError`] with the full [`JsonPath`], and with the name that was probably meant. Nothing
//! a description says can panic or recurse without bound ([`LEVELS_MAX`]).
//!
//! It deliberately does not read files or guess what a file contains; each handle opens what it names. The built-in types
//! are listed in the catalogue crate, which links them.
//!
//! On failure of a handle's own code the error keeps the cause as its source.

mod byte_size;
mod check;
mod context;
mod de;
mod document;
mod error;
mod handle;
mod json;
mod locate;
mod path;
mod registry;
mod resource;
mod schema;
mod suggest;

pub use async_trait::async_trait;
pub use byte_size::{ByteSize, InvalidByteSize};
pub use check::MISTAKES_MAX;
pub use context::{LEVELS_MAX, ResolveContext};
pub use document::{FieldDoc, KindDoc, TypeDoc};
pub use error::{OtherKind, Problem, ResolveError};
pub use handle::{Failure, NoReserved, ResourceHandle, ResourceKind};
pub use json::{from_str, from_value, parse};
pub use locate::line_of;
pub use path::{JsonPath, Segment};
pub use registry::ResourceResolver;
pub use resource::Resource;

/// What [`register!`] expands to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use linkme;

    use crate::ResourceResolver;

    /// Everything that was linked into the program.
    #[linkme::distributed_slice]
    pub static LINKED: [fn(&mut ResourceResolver)];
}

/// Registers handle types in every program that links the crate: `register! { FileHandle: Disk, RamHandle: Layer }`.
///
/// The linker drops a crate that is not named anywhere: the program, or a crate that it uses, says `use the_crate as _;`.
#[macro_export]
macro_rules! register {
    ($($handle:ty: $kind:ty),+ $(,)?) => {$(
        const _: () = {
            #[$crate::__private::linkme::distributed_slice($crate::__private::LINKED)]
            #[linkme(crate = $crate::__private::linkme)]
            static REGISTER: fn(&mut $crate::ResourceResolver) = |resolver| {
                resolver.add::<$kind, $handle>();
            };
        };
    )+};
}
