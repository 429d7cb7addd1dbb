//! Fixed-capacity lists and texts that can travel: heapless containers with bincode and serde implementations.
//!
//! heapless knows serde but not bincode 2. The capacity is part of the wire format: a longer list is a decode
//! error, never a truncation and never an allocation.

use bincode::{
    BorrowDecode, Decode, Encode,
    de::{BorrowDecoder, Decoder, read::Reader},
    enc::{Encoder, write::Writer},
    error::{DecodeError, EncodeError},
};
use core::ops::{Deref, DerefMut};
use serde::{Deserialize, Serialize};

/// A list of at most `N` items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct List<T, const N: usize>(pub heapless::Vec<T, N>);

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(heapless::Vec::new())
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = heapless::Vec<T, N>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T, const N: usize> DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<T, const N: usize> FromIterator<T> for List<T, N> {
    /// Collects the first `N` items; the rest is dropped, so callers bound their iterator first.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().take(N).collect())
    }
}

impl<T: Encode, const N: usize> Encode for List<T, N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u32).encode(encoder)?;
        self.0.iter().try_for_each(|item| item.encode(encoder))
    }
}

impl<C, T: Decode<C>, const N: usize> Decode<C> for List<T, N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = u32::decode(decoder)? as usize;
        if len > N {
            return Err(DecodeError::Other("a list is longer than its capacity"));
        }
        let mut items = heapless::Vec::new();
        for _ in 0..len {
            if items.push(T::decode(decoder)?).is_err() {
                return Err(DecodeError::Other("a list is longer than its capacity"));
            }
        }
        Ok(Self(items))
    }
}

impl<'de, C, T: Decode<C>, const N: usize> BorrowDecode<'de, C> for List<T, N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// UTF-8 text of at most `N` bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<const N: usize>(heapless::String<N>);

impl<const N: usize> Text<N> {
    /// Keeps as many whole characters of `text` as fit; for reasons and sentences, where an end may be cut.
    pub fn cut(text: &str) -> Self {
        let mut kept = heapless::String::new();
        for c in text.chars() {
            if kept.push(c).is_err() {
                break;
            }
        }
        Self(kept)
    }

    /// The whole text, or `None` when it does not fit.
    pub fn whole(text: &str) -> Option<Self> {
        heapless::String::try_from(text).ok().map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<const N: usize> core::fmt::Display for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> Encode for Text<N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u32).encode(encoder)?;
        encoder.writer().write(self.0.as_bytes())
    }
}

impl<C, const N: usize> Decode<C> for Text<N> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = u32::decode(decoder)? as usize;
        if len > N {
            return Err(DecodeError::Other("a text is longer than its capacity"));
        }
        decoder.claim_bytes_read(len)?;
        let mut bytes = [0u8; N];
        decoder.reader().read(&mut bytes[..len])?;
        core::str::from_utf8(&bytes[..len]).ok().and_then(Self::whole).ok_or(DecodeError::Other("a text is not UTF-8"))
    }
}

impl<'de, C, const N: usize> BorrowDecode<'de, C> for Text<N> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}
