//! Which types may live in shared memory, and the macros that declare them without `unsafe` at the caller.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A type that may be placed in a [`crate::Segment`] and used by many processes at once.
///
/// # Safety
/// All bytes zero is a valid value; it holds no pointer, reference or descriptor; it needs no drop; every access is through
/// `&self` and is sound when another process does the same at the same time, or stops in the middle.
pub unsafe trait Shareable: Sync {}

/// A record that is copied as bytes.
///
/// # Safety
/// Every bit pattern is valid and there is no padding.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! shareable_primitives {
    ($($atomic:ty),*) => { $(
        // SAFETY: zero is valid, an atomic needs no drop and may be used by any process that maps it.
        unsafe impl Shareable for $atomic {}
    )* };
}
shareable_primitives!(AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicI32, AtomicI64);

// SAFETY: an array of shareable values is nothing but these values.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

macro_rules! plain_primitives {
    ($($integer:ty),*) => { $(
        // SAFETY: numbers have no padding and no invalid bit pattern.
        unsafe impl Plain for $integer {}
    )* };
}
plain_primitives!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

// SAFETY: an array has no padding between its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Declares a struct of shareable fields and makes it [`Shareable`].
#[macro_export]
macro_rules! shareable {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_visibility:vis $field:ident : $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[repr(C)]
        $visibility struct $name { $($(#[$field_meta])* $field_visibility $field: $type),* }

        const _: () = {
            const fn requires_shareable<T: $crate::macro_support::Shareable>() {}
            $(requires_shareable::<$type>();)*
            assert!(!::core::mem::needs_drop::<$name>());
        };
        // SAFETY: each field is shareable (checked above), so the struct of them is.
        unsafe impl $crate::macro_support::Shareable for $name {}
    };
}

/// Declares a record of plain fields without padding, and makes it [`Plain`], `Clone`, `Copy` and `Default` (all zero).
#[macro_export]
macro_rules! plain {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_visibility:vis $field:ident : $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        $visibility struct $name { $($(#[$field_meta])* $field_visibility $field: $type),* }

        const _: () = {
            const fn requires_plain<T: $crate::macro_support::Plain>() {}
            $(requires_plain::<$type>();)*
            assert!(
                ::core::mem::size_of::<$name>() == 0 $(+ ::core::mem::size_of::<$type>())*,
                "a plain record must not have padding: order its fields by size or add explicit filler"
            );
        };
        // SAFETY: each field is plain and the sizes add up, so there is no padding (both checked above).
        unsafe impl $crate::macro_support::Plain for $name {}

        impl Default for $name {
            fn default() -> Self {
                // SAFETY: a plain type is valid for every bit pattern, so also for zeros.
                unsafe { ::core::mem::zeroed() }
            }
        }
    };
}
