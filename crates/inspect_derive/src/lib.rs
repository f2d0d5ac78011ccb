//! The derive macro of the `inspect` crate, which re-exports and documents it: use it from there.
//!
//! ```
//! #[derive(inspect::Inspect)]
//! struct Cache { hits: u64, #[inspect(hex)] mask: u32 }
//! ```
//!
//! Foundation (row 1). A wrong attribute is a compile error that points at it and says what is allowed.
//! It generates calls of the public interface of `inspect`, and nothing that a person could not have written.

mod attributes;
mod case;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Inspect`. The attributes are described where `inspect` re-exports this macro.
#[proc_macro_derive(Inspect, attributes(inspect))]
pub fn derive_inspect(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
