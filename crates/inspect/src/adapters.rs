//! Other ways to show a value than its own.

use crate::{Inspect, Request};
use std::fmt;
use std::ops::Deref;

/// Made by [`as_hex`].
#[derive(Debug, Clone, Copy)]
pub struct AsHex<T>(T);

/// Shows a number as a string in hexadecimal, with `0x`.
pub fn as_hex<T: fmt::LowerHex>(number: T) -> AsHex<T> {
    AsHex(number)
}

impl<T: fmt::LowerHex> Inspect for AsHex<T> {
    fn inspect(&self, req: Request<'_>) {
        req.value_with(|| format!("{:#x}", self.0));
    }
}

/// Made by [`as_display`].
#[derive(Debug, Clone, Copy)]
pub struct AsDisplay<T>(T);

/// Shows the text that `Display` makes.
pub fn as_display<T: fmt::Display>(part: T) -> AsDisplay<T> {
    AsDisplay(part)
}

impl<T: fmt::Display> Inspect for AsDisplay<T> {
    fn inspect(&self, req: Request<'_>) {
        req.value_with(|| self.0.to_string());
    }
}

/// Made by [`as_debug`].
#[derive(Debug, Clone, Copy)]
pub struct AsDebug<T>(T);

/// Shows the text that `Debug` makes.
pub fn as_debug<T: fmt::Debug>(part: T) -> AsDebug<T> {
    AsDebug(part)
}

impl<T: fmt::Debug> Inspect for AsDebug<T> {
    fn inspect(&self, req: Request<'_>) {
        req.value_with(|| format!("{:?}", self.0));
    }
}

/// Made by [`as_deref`].
#[derive(Debug, Clone, Copy)]
pub struct AsDeref<T>(T);

/// Shows what a guard or smart pointer of any crate points to.
pub fn as_deref<T: Deref<Target: Inspect>>(pointer: T) -> AsDeref<T> {
    AsDeref(pointer)
}

impl<T: Deref<Target: Inspect>> Inspect for AsDeref<T> {
    fn inspect(&self, req: Request<'_>) {
        self.0.inspect(req);
    }
}

/// Made by [`iter_by_index`].
pub struct ByIndex<'a, C: ?Sized>(&'a C);

/// Shows a collection as a list of its items.
pub fn iter_by_index<'a, C: ?Sized>(collection: &'a C) -> ByIndex<'a, C>
where
    &'a C: IntoIterator<Item: Inspect>,
{
    ByIndex(collection)
}

impl<'a, C: ?Sized> Inspect for ByIndex<'a, C>
where
    &'a C: IntoIterator<Item: Inspect>,
{
    fn inspect(&self, req: Request<'_>) {
        req.list(self.0);
    }
}

/// Made by [`iter_by_key`].
pub struct ByKey<'a, C: ?Sized>(&'a C);

/// Shows a collection of pairs as one part for each, named by the `Display` of its key.
pub fn iter_by_key<'a, C: ?Sized, K, V>(collection: &'a C) -> ByKey<'a, C>
where
    &'a C: IntoIterator<Item = (K, V)>,
    K: fmt::Display,
    V: Inspect,
{
    ByKey(collection)
}

impl<'a, C: ?Sized, K, V> Inspect for ByKey<'a, C>
where
    &'a C: IntoIterator<Item = (K, V)>,
    K: fmt::Display,
    V: Inspect,
{
    fn inspect(&self, req: Request<'_>) {
        req.entries(self.0);
    }
}

/// Made by [`adhoc`].
pub struct AsAdhoc<F>(F);

/// Answers by a closure, where an object is expected.
pub fn adhoc<F: Fn(Request<'_>)>(f: F) -> AsAdhoc<F> {
    AsAdhoc(f)
}

impl<F: Fn(Request<'_>)> Inspect for AsAdhoc<F> {
    fn inspect(&self, req: Request<'_>) {
        (self.0)(req);
    }
}

impl<F> fmt::Debug for AsAdhoc<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsAdhoc").finish_non_exhaustive()
    }
}

impl<C: ?Sized> fmt::Debug for ByIndex<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByIndex").finish_non_exhaustive()
    }
}

impl<C: ?Sized> fmt::Debug for ByKey<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByKey").finish_non_exhaustive()
    }
}
