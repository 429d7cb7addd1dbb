//! The model bundle: what a release consists of, and how its files travel as one piece.
//!
//! A bundle is a directory (or a packed file) with `manifest.json`, `model.onnx`, `baseline.json`, `schema.json`, `golden.json`, and
//! for some `embedding.json`.
//! The manifest lists every other file's length and SHA-256; the manifest's own SHA-256 is the release's digest, so one
//! digest covers everything. Signatures come on top of exactly these bytes.
//!
//! Packed form, little-endian: magic `DLB1`, u32 length of the manifest, the manifest's bytes, then each listed file's bytes in
//! the manifest's order, nothing after.

use crate::list::{List, Text};
use crate::units::Name;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Version of the manifest format.
pub const FORMAT: u32 = 1;
/// Files listed by a manifest.
pub const FILES_MAX: usize = 8;
/// Longest manifest.
pub const MANIFEST_BYTES_MAX: usize = 4096;
/// Largest file of a bundle.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Classes of a classifier.
pub const CLASSES_MAX: usize = 256;
/// First bytes of a packed bundle.
pub const MAGIC: [u8; 4] = *b"DLB1";

/// The model itself.
pub const MODEL_FILE: &str = "model.onnx";
/// [`crate::baseline::Baseline`] as JSON.
pub const BASELINE_FILE: &str = "baseline.json";
/// [`Schema`] as JSON.
pub const SCHEMA_FILE: &str = "schema.json";
/// [`Golden`] inputs and outputs as JSON.
pub const GOLDEN_FILE: &str = "golden.json";
/// [`Projection`] as JSON, where the model's own embedding is watched.
pub const EMBEDDING_FILE: &str = "embedding.json";
/// The manifest's own name.
pub const MANIFEST_FILE: &str = "manifest.json";

/// SHA-256 of a file, hex in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

impl core::fmt::Display for Digest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl core::str::FromStr for Digest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let mut bytes = [0u8; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(BadDigest);
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| BadDigest)?;
        }
        Ok(Self(bytes))
    }
}

/// Text that is no SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadDigest;

impl core::fmt::Display for BadDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a SHA-256 digest has 64 hexadecimal digits")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::<64>::deserialize(deserializer)?.as_str().parse().map_err(serde::de::Error::custom)
    }
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// File name within the bundle's directory.
    pub name: Name,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

/// What a release consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Model name.
    pub model: Name,
    /// Release name, such as `v2`.
    pub release: Name,
    /// Every file but the manifest.
    pub files: List<FileEntry, FILES_MAX>,
}

impl Manifest {
    /// The entry of a file.
    pub fn file(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|f| f.name.as_str() == name)
    }
}

/// What the model's output tensor means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(
    clippy::large_enum_variant,
    reason = "without an allocator there is no box; a process holds a handful of schemas"
)]
pub enum Task {
    /// Scores of these classes.
    Classification(List<Text<64>, CLASSES_MAX>),
    /// So many numbers.
    Regression(u16),
}

impl Task {
    /// Classes of a classifier; 0 for numbers.
    pub fn classes(&self) -> usize {
        match self {
            Self::Classification(classes) => classes.len(),
            Self::Regression(_) => 0,
        }
    }
}

/// The place of a class by its text; `1` and `1.0` are the same class.
pub fn class_index<'a>(classes: impl IntoIterator<Item = &'a str>, text: &str) -> Option<u16> {
    let text = text.trim();
    let number: Option<f64> = text.parse().ok();
    let same = |class: &str| class == text || (number.is_some() && class.parse().ok() == number);
    classes.into_iter().position(same).and_then(|at| u16::try_from(at).ok())
}

/// What an application gets when an input lies outside what the model was trained on, or the device's own detectors see that inputs have
/// changed. What is sketched and reported stays what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// The answer, with a word about it.
    Flag,
    /// The last answer to inputs of the known range, with a word about it.
    Hold,
    /// The answer of the release before, where the device still has it and it has the same classes, with a word about it.
    Fallback,
}

/// How far beyond the training data's smallest and largest value an input may lie, as a share of what is between them.
pub const GUARD_MARGIN: f32 = 0.1;

/// Most channels of a signal.
pub const SIGNAL_CHANNELS_MAX: usize = 16;
/// Most numbers that a sample of a signal or an image may have.
pub const SAMPLE_VALUES_MAX: usize = 1 << 22;

/// What a sample is, where it is more than one number per watched input. What is watched of it is derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "no allocator here; there is one in a schema")]
pub enum Sampled {
    /// The newest readings of a signal.
    Signal {
        /// Columns of the source, in the model's order.
        channels: List<Text<64>, SIGNAL_CHANNELS_MAX>,
        /// How many readings of each.
        length: u32,
        /// After how many readings the next sample is taken.
        hop: u32,
        /// Whether all readings of a channel stand together, or those of one moment.
        planar: bool,
    },
    /// An image.
    Image {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// 1 for grey, 3 for red, green and blue.
        channels: u8,
        /// Whether all pixels of a channel stand together, or the channels of a pixel.
        planar: bool,
        /// What a full pixel is.
        pixels: Pixels,
    },
}

/// What a pixel's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pixels {
    /// 0 to 1.
    Unit,
    /// 0 to 255.
    Byte,
}

/// How samples become the model's input, and how often windows close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// [`FORMAT`].
    pub format: u32,
    /// What comes out.
    pub task: Task,
    /// Column that holds the true class, where a source has one.
    pub label: Option<Text<64>>,
    /// Length of a window in event time.
    pub window_ms: u32,
    /// What happens outside what the training data was like; `None` lets everything pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// What a sample is; `None` is one number per watched input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampled>,
}

/// Inputs with the outputs they must give, checked on the device before a model is tried. `L` is the owner's list type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden<L> {
    /// Rows of input values.
    pub inputs: L,
    /// Rows of output values.
    pub outputs: L,
    /// Largest allowed |difference|, relative to max(1, |expected|).
    pub tolerance: f32,
}

/// How the model's own embedding of a sample is watched: by its length, by how far it lies along a few directions, and by what is left
/// then. `L` is the owner's list of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection<L> {
    /// [`FORMAT`].
    pub format: u32,
    /// The tensor of the model that is the embedding.
    pub tensor: Text<256>,
    /// Its mean over the training samples.
    pub mean: L,
    /// Orthonormal directions in which the training samples vary most, one after the other, each as long as the mean.
    pub directions: L,
}

/// The manifest's bytes and what follows them in a packed bundle.
pub fn split_packed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    if len > MANIFEST_BYTES_MAX {
        return None;
    }
    rest.split_at_checked(len)
}
