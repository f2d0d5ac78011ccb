//! Reading a value whose every bit pattern is valid.

use std::mem::MaybeUninit;
use zerocopy::FromBytes;

/// A `T` from the `size_of::<T>()` bytes that `read` fills in.
pub(crate) fn read<T: FromBytes, E>(read: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<T, E> {
    let mut value = MaybeUninit::<T>::uninit();
    let base = value.as_mut_ptr().cast::<u8>();
    // SAFETY: `value` is as large as a `T`. Zeroing in place initialises its padding too.
    unsafe { base.write_bytes(0, size_of::<T>()) };
    // SAFETY: all bytes were initialised by the line before, and `value` is not touched while the slice lives.
    read(unsafe { std::slice::from_raw_parts_mut(base, size_of::<T>()) })?;
    // SAFETY: all bytes are initialised, and `FromBytes` promises that any bytes make a valid `T`.
    Ok(unsafe { value.assume_init() })
}
