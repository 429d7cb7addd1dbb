//! Names, ids and times as types, so that a device is never taken for a fleet nor a wall time for a monotonic one.
//!
//! Every name that can come from outside has one grammar, `[A-Za-z0-9._-]{1,64}`, checked here and nowhere else.

use crate::list::Text;
use bincode::{BorrowDecode, Decode, Encode, de::BorrowDecoder, de::Decoder, error::DecodeError};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Longest name in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Partitions that devices are spread over, in topics and keys.
pub const PARTITIONS: u64 = 64;

/// A name of a device, fleet, model, release, feature or label: `[A-Za-z0-9._-]{1,64}`, and neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Serialize)]
#[serde(transparent)]
pub struct Name(Text<NAME_BYTES_MAX>);

impl Name {
    /// Checks the grammar.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let grammar = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        // `.` and `..` would be directories where a name becomes a path.
        if text.is_empty() || text == "." || text == ".." || !text.bytes().all(grammar) {
            return Err(BadName);
        }
        Text::whole(text).map(Self).ok_or(BadName)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::str::FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl<C> Decode<C> for Name {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let text = Text::<NAME_BYTES_MAX>::decode(decoder)?;
        Self::new(text.as_str()).map_err(|_| DecodeError::Other("a name breaks the grammar"))
    }
}

impl<'de, C> BorrowDecode<'de, C> for Name {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::<NAME_BYTES_MAX>::deserialize(deserializer)?;
        Self::new(text.as_str()).map_err(serde::de::Error::custom)
    }
}

/// A text that is no [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name has 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    }
}

impl core::error::Error for BadName {}

/// The partition of a device: FNV-1a of its name, modulo 64 (any stable hash would do; this one is seven lines).
pub fn partition(device: &Name) -> u8 {
    (hash(device.as_str().as_bytes()) % PARTITIONS) as u8
}

/// FNV-1a, 64 bits: what a sample's id becomes, so that the id itself need not be kept.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// [`hash`] of a number as people write it.
pub fn hash_of_number(mut number: u64) -> u64 {
    let mut digits = [b'0'; 20];
    let mut from = digits.len() - 1;
    loop {
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return hash(&digits[from..]);
        }
        from -= 1;
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);
    };
}

id!(
    /// One life of one device's spool: random, made and synced when the spool is created. Unordered.
    Stream
);
id!(
    /// Number of a frame within a stream, from 1.
    Seq
);
id!(
    /// The first eight bytes of a bundle's SHA-256, big-endian: names a model, its baseline and its schema together.
    ReleaseId
);
id!(
    /// Number of a device's desired state; only grows, and a device refuses an older one.
    Generation
);
id!(
    /// Milliseconds since 1970, from a clock that may be wrong, step or start in 1970.
    WallMs
);
id!(
    /// Milliseconds of a clock that never goes back; its zero means nothing.
    MonoMs
);

impl ReleaseId {
    /// The id of the bundle whose manifest has this SHA-256.
    pub fn of(digest: &[u8; 32]) -> Self {
        let mut head = [0u8; 8];
        head.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(head))
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl MonoMs {
    /// This time plus `ms`.
    pub fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// What a state machine is told of time when it is called: both clocks, read at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For timers.
    pub mono: MonoMs,
    /// For event times.
    pub wall: WallMs,
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;

    #[test]
    fn names_follow_one_grammar() {
        for good in ["a", "pump-001", "s01_dr", "v1.4", &"x".repeat(64)[..]] {
            assert_eq!(Name::new(good).map(|n| std::string::String::from(n.as_str())), Ok(good.into()));
        }
        for bad in ["", ".", "..", "a/b", "a b", "+", "#", "é", "a\0", &"x".repeat(65)[..]] {
            assert_eq!(Name::new(bad), Err(BadName), "{bad:?}");
        }
    }

    #[test]
    fn a_number_hashes_as_it_is_written() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(hash_of_number(number), hash(std::format!("{number}").as_bytes()));
        }
    }

    #[test]
    fn partition_is_stable() {
        // FNV-1a 64 of "a" is af63dc4c8601ec8c (published test vector); its low six bits are 0x0c.
        assert_eq!(partition(&Name::new("a").expect("a name")), 0x0c);
    }
}
