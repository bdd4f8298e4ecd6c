//! Text of bounded length as a plain value.

use crate::traits::Plain;
use std::fmt;

/// Up to `N` bytes of UTF-8 text; the rest is zero. A longer text is cut at a character boundary.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Text<const N: usize>([u8; N]);

// SAFETY: transparent over an array of bytes.
unsafe impl<const N: usize> Plain for Text<N> {}

impl<const N: usize> Text<N> {
    /// Takes over as much of `text` as fits. Text behind a NUL is not kept.
    pub fn new(text: &str) -> Self {
        let text = text.split('\0').next().unwrap_or_default();
        let cut = (0..=N.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let mut bytes = [0; N];
        bytes[..cut].copy_from_slice(&text.as_bytes()[..cut]);
        Self(bytes)
    }

    /// The text. Bytes that are not UTF-8 (a torn or foreign value) end it.
    pub fn as_str(&self) -> &str {
        let used = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        match std::str::from_utf8(&self.0[..used]) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&self.0[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_a_character_boundary() {
        assert_eq!(Text::<4>::new("abcdef").as_str(), "abcd");
        assert_eq!(Text::<4>::new("abcä").as_str(), "abc");
        assert_eq!(Text::<4>::new("a\0b").as_str(), "a");
        assert_eq!(Text::<4>::new("").as_str(), "");
        assert_eq!(Text::<3>([b'a', 0xff, b'c']).as_str(), "a");
    }
}
