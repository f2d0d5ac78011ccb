//! How the types of the standard library show themselves.

use crate::{Inspect, Request};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

macro_rules! as_value {
    ($($ty:ty),*) => {$(
        impl Inspect for $ty {
            fn inspect(&self, req: Request<'_>) {
                req.value(*self);
            }
        }
    )*};
}

as_value!(
    bool, u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, f32, f64
);

macro_rules! nonzero_as_value {
    ($($ty:ty),*) => {$(
        impl Inspect for std::num::NonZero<$ty> {
            fn inspect(&self, req: Request<'_>) {
                req.value(self.get());
            }
        }
    )*};
}

nonzero_as_value!(u8, u16, u32, u64, usize);

macro_rules! atomic_as_value {
    ($($ty:ty),*) => {$(
        /// Shown only. To let it be changed too, say how: [`Response::field_mut_with`](crate::Response::field_mut_with).
        impl Inspect for $ty {
            fn inspect(&self, req: Request<'_>) {
                req.value_with(|| self.load(Ordering::Relaxed));
            }
        }
    )*};
}

atomic_as_value!(
    AtomicBool,
    AtomicU8,
    AtomicU16,
    AtomicU32,
    AtomicU64,
    AtomicUsize,
    AtomicI8,
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicIsize
);

impl Inspect for str {
    fn inspect(&self, req: Request<'_>) {
        req.value_with(|| self.to_owned());
    }
}

impl Inspect for String {
    fn inspect(&self, req: Request<'_>) {
        self.as_str().inspect(req);
    }
}

impl Inspect for char {
    fn inspect(&self, req: Request<'_>) {
        req.value_with(|| self.to_string());
    }
}

impl<T: Inspect + ToOwned + ?Sized> Inspect for Cow<'_, T> {
    fn inspect(&self, req: Request<'_>) {
        (**self).inspect(req);
    }
}

/// As text; bytes that are not UTF-8 are replaced.
impl Inspect for Path {
    fn inspect(&self, req: Request<'_>) {
        req.value_with(|| self.to_string_lossy().into_owned());
    }
}

impl Inspect for PathBuf {
    fn inspect(&self, req: Request<'_>) {
        self.as_path().inspect(req);
    }
}

/// In seconds, with a fraction.
impl Inspect for Duration {
    fn inspect(&self, req: Request<'_>) {
        req.value(self.as_secs_f64());
    }
}

/// Not shown.
impl Inspect for () {
    fn inspect(&self, req: Request<'_>) {
        req.ignore();
    }
}

/// Not shown.
impl<T: ?Sized> Inspect for PhantomData<T> {
    fn inspect(&self, req: Request<'_>) {
        req.ignore();
    }
}

/// Itself.
impl Inspect for serde_json::Value {
    fn inspect(&self, req: Request<'_>) {
        match self {
            serde_json::Value::Object(parts) => req.entries(parts),
            serde_json::Value::Array(items) => req.list(items),
            single => req.value_with(|| single.clone()),
        }
    }
}

macro_rules! as_target {
    ($($ty:ty),*) => {$(
        impl<T: Inspect + ?Sized> Inspect for $ty {
            fn inspect(&self, req: Request<'_>) {
                (**self).inspect(req);
            }
        }
    )*};
}

as_target!(
    &T,
    &mut T,
    Box<T>,
    Rc<T>,
    Arc<T>,
    MutexGuard<'_, T>,
    RwLockReadGuard<'_, T>
);

/// What it holds, or `null`.
impl<T: Inspect> Inspect for Option<T> {
    fn inspect(&self, req: Request<'_>) {
        match self {
            Some(part) => part.inspect(req),
            None => req.value(()),
        }
    }
}

/// What it holds, or `null` as long as it is not set.
impl<T: Inspect> Inspect for OnceLock<T> {
    fn inspect(&self, req: Request<'_>) {
        Inspect::inspect(&self.get(), req);
    }
}

/// What it holds, also after a panic of another holder. Waits for the lock.
impl<T: Inspect + ?Sized> Inspect for Mutex<T> {
    fn inspect(&self, req: Request<'_>) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect(req);
    }
}

/// What it holds, also after a panic of another holder. Waits for the lock.
impl<T: Inspect + ?Sized> Inspect for RwLock<T> {
    fn inspect(&self, req: Request<'_>) {
        self.read()
            .unwrap_or_else(PoisonError::into_inner)
            .inspect(req);
    }
}

impl<T: Inspect> Inspect for [T] {
    fn inspect(&self, req: Request<'_>) {
        req.list(self);
    }
}

impl<T: Inspect, const N: usize> Inspect for [T; N] {
    fn inspect(&self, req: Request<'_>) {
        req.list(self);
    }
}

impl<T: Inspect> Inspect for Vec<T> {
    fn inspect(&self, req: Request<'_>) {
        req.list(self);
    }
}

impl<T: Inspect> Inspect for VecDeque<T> {
    fn inspect(&self, req: Request<'_>) {
        req.list(self);
    }
}

impl<K: Display, V: Inspect> Inspect for BTreeMap<K, V> {
    fn inspect(&self, req: Request<'_>) {
        req.entries(self);
    }
}

/// In the order of the names, so that the same map looks the same each time.
impl<K: Display, V: Inspect, S> Inspect for HashMap<K, V, S> {
    fn inspect(&self, req: Request<'_>) {
        let response = req.respond();
        if response.is_closed() {
            return;
        }
        let mut entries: Vec<(String, &V)> = self
            .iter()
            .map(|(name, part)| (name.to_string(), part))
            .collect();
        entries.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let mut response = response;
        for (name, part) in entries {
            response.field(&name, part);
        }
    }
}
