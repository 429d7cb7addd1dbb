//! A model's bundle: files that belong together, verified against the manifest before anything is believed.
//!
//! The manifest's exact bytes carry the release's digest; the manifest carries the length and SHA-256 of the rest. This is the
//! one place that checks them, for a bundle from a directory, from a packed file or fetched block by block. Formats
//! are those of `shared::manifest`. Directories are read and written by `io::bundle_dir`; signatures come with a later issue.

use crate::derived;
use crate::projection::{self, HeapProjection};
use driftline_shared::baseline::{self, Baseline, FeatureBaseline, Role};
use driftline_shared::embedding;
use driftline_shared::list::List;
use driftline_shared::manifest::{
    self, BASELINE_FILE, Digest, EMBEDDING_FILE, FileEntry, GOLDEN_FILE, Golden, MAGIC, MANIFEST_BYTES_MAX,
    MANIFEST_FILE, MODEL_FILE, Manifest, SAMPLE_VALUES_MAX, SCHEMA_FILE, Sampled, Schema, Task, split_packed,
};
use driftline_shared::units::{Name, ReleaseId};
use driftline_shared::window::FEATURES_MAX;
use sha2::{Digest as _, Sha256};

/// Largest bundle this program holds in memory.
pub const BUNDLE_BYTES_MAX: u64 = 64 << 20;
/// Largest JSON file of a bundle.
pub const JSON_BYTES_MAX: u64 = 4 << 20;
/// Longest window.
pub const WINDOW_MS_MAX: u32 = 24 * 3600 * 1000;

/// A baseline with its features on the heap.
pub type HeapBaseline = Baseline<Vec<FeatureBaseline>>;
/// Golden rows on the heap.
pub type HeapGolden = Golden<Vec<Vec<f32>>>;

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The packed bytes are cut off or something else.
    #[error("the file is no packed bundle, or is cut off: make it again with `driftline models add`")]
    Packed,
    /// The manifest does not read.
    #[error("{MANIFEST_FILE} is not a bundle's manifest ({0}): create the bundle again")]
    Manifest(String),
    /// Another format version.
    #[error("{file} has format {found}, and this program reads format {wanted}: update the older of the two")]
    Format {
        /// The file.
        file: &'static str,
        /// What it says.
        found: u32,
        /// What is read here.
        wanted: u32,
    },
    /// A file that every bundle has is not listed.
    #[error("the bundle has no {0}: create the bundle again")]
    Missing(String),
    /// A file is not as long as the manifest says.
    #[error("{file} has {found} bytes where the manifest says {wanted}: the bundle is damaged, copy it again")]
    Length {
        /// The file.
        file: String,
        /// Bytes found.
        found: u64,
        /// Bytes listed.
        wanted: u64,
    },
    /// A file's content is not what the manifest says.
    #[error("{file} does not match the manifest's SHA-256: the bundle is damaged or was changed, copy it again")]
    Digest {
        /// The file.
        file: String,
    },
    /// A file is larger than this program holds.
    #[error("{file} has {bytes} bytes, and at most {max} are accepted")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A JSON file does not read.
    #[error("{file} does not read ({reason}): create the bundle again")]
    Json {
        /// The file.
        file: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// The files do not fit each other.
    #[error("{0}: create the bundle again")]
    Inconsistent(String),
    /// A directory could not be read or written.
    #[error("{path} {what}: {reason}")]
    Io {
        /// The file or directory.
        path: String,
        /// Which operation failed.
        what: &'static str,
        /// What the system said; not a source, because devices report the sentence alone and a chain would say it twice.
        reason: std::io::Error,
    },
}

/// A verified bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    digest: Digest,
    files: Vec<Vec<u8>>,
    baseline: HeapBaseline,
    schema: Box<Schema>,
    golden: HeapGolden,
    projection: Option<HeapProjection>,
}

impl Bundle {
    /// Makes a bundle of a model and what is known of it.
    pub fn create(
        model: &Name,
        release: &Name,
        onnx: Vec<u8>,
        baseline: &HeapBaseline,
        schema: &Schema,
        golden: &HeapGolden,
        projection: Option<&HeapProjection>,
    ) -> Result<Self, BundleError> {
        let mut files = vec![
            (MODEL_FILE, onnx),
            (BASELINE_FILE, to_json(BASELINE_FILE, baseline)?),
            (SCHEMA_FILE, to_json(SCHEMA_FILE, schema)?),
            (GOLDEN_FILE, to_json(GOLDEN_FILE, golden)?),
        ];
        if let Some(projection) = projection {
            files.push((EMBEDDING_FILE, to_json(EMBEDDING_FILE, projection)?));
        }
        let mut entries = List::default();
        for (name, bytes) in &files {
            let name = Name::new(name).map_err(|e| BundleError::Manifest(e.to_string()))?;
            let entry = FileEntry { name, bytes: bytes.len() as u64, sha256: sha256(bytes) };
            entries.push(entry).map_err(|_| BundleError::Manifest("too many files".into()))?;
        }
        let manifest =
            Manifest { format: manifest::FORMAT, model: model.clone(), release: release.clone(), files: entries };
        let manifest_bytes = to_json(MANIFEST_FILE, &manifest)?;
        Self::from_files(manifest_bytes, files.into_iter().map(|(_, bytes)| bytes).collect())
    }

    /// Checks files, in the manifest's order, against the manifest and each other.
    pub fn from_files(manifest_bytes: Vec<u8>, files: Vec<Vec<u8>>) -> Result<Self, BundleError> {
        let manifest = parse_manifest(&manifest_bytes)?;
        for (at, entry) in manifest.files.iter().enumerate() {
            let bytes = files.get(at).ok_or_else(|| BundleError::Missing(entry.name.to_string()))?;
            check_file(entry, bytes)?;
        }
        let json = |name: &'static str| {
            let at = manifest.files.iter().position(|f| f.name.as_str() == name);
            at.and_then(|at| files.get(at)).map(Vec::as_slice).ok_or(BundleError::Missing(name.into()))
        };
        let baseline: HeapBaseline = from_json(BASELINE_FILE, json(BASELINE_FILE)?)?;
        let schema: Box<Schema> = from_json(SCHEMA_FILE, json(SCHEMA_FILE)?)?;
        let golden: HeapGolden = from_json(GOLDEN_FILE, json(GOLDEN_FILE)?)?;
        let projection = match manifest.file(EMBEDDING_FILE) {
            Some(_) => Some(from_json(EMBEDDING_FILE, json(EMBEDDING_FILE)?)?),
            None => None,
        };
        let digest = sha256(&manifest_bytes);
        let bundle = Self { manifest, manifest_bytes, digest, files, baseline, schema, golden, projection };
        bundle.consistent()?;
        Ok(bundle)
    }

    /// Reads the packed form.
    pub fn unpack(bytes: &[u8]) -> Result<Self, BundleError> {
        let (manifest_bytes, mut rest) = split_packed(bytes).ok_or(BundleError::Packed)?;
        let manifest = parse_manifest(manifest_bytes)?;
        let mut files = Vec::new();
        for entry in manifest.files.iter() {
            let len = usize::try_from(entry.bytes).map_err(|_| BundleError::Packed)?;
            let (file, after) = rest.split_at_checked(len).ok_or(BundleError::Packed)?;
            files.push(file.to_vec());
            rest = after;
        }
        if !rest.is_empty() {
            return Err(BundleError::Packed);
        }
        Self::from_files(manifest_bytes.to_vec(), files)
    }

    /// The packed form.
    pub fn pack(&self) -> Vec<u8> {
        let mut packed = MAGIC.to_vec();
        // A manifest is at most MANIFEST_BYTES_MAX long.
        packed.extend_from_slice(&(self.manifest_bytes.len() as u32).to_le_bytes());
        packed.extend_from_slice(&self.manifest_bytes);
        self.files.iter().for_each(|file| packed.extend_from_slice(file));
        packed
    }

    /// SHA-256 of the manifest's bytes: the release's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The id that windows carry.
    pub fn release_id(&self) -> ReleaseId {
        ReleaseId::of(&self.digest.0)
    }

    /// What the bundle consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's exact bytes.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// What was normal.
    pub fn baseline(&self) -> &HeapBaseline {
        &self.baseline
    }

    /// How samples become inputs.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Inputs with the outputs they must give.
    pub fn golden(&self) -> &HeapGolden {
        &self.golden
    }

    /// How the model's own embedding is watched, where it is.
    pub fn projection(&self) -> Option<&HeapProjection> {
        self.projection.as_ref()
    }

    /// The ONNX model.
    pub fn model(&self) -> &[u8] {
        self.file(MODEL_FILE).unwrap_or_default()
    }

    /// The content of a file other than the manifest.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        let at = self.manifest.files.iter().position(|f| f.name.as_str() == name)?;
        self.files.get(at).map(Vec::as_slice)
    }

    /// Every file with its name, the manifest last so that a directory without it is known to be incomplete.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let names = self.manifest.files.iter().map(|f| f.name.as_str());
        names.zip(self.files.iter().map(Vec::as_slice)).chain([(MANIFEST_FILE, &*self.manifest_bytes)])
    }

    /// How many numbers the model takes of a sample.
    pub fn model_inputs(&self) -> usize {
        self.schema.sampled.as_ref().map_or_else(|| self.inputs(), derived::raw_len)
    }

    /// How many numbers of a sample are watched.
    pub fn inputs(&self) -> usize {
        self.baseline.features.iter().filter(|f| f.role.is_input()).count()
    }

    /// How many numbers the model has to give.
    pub fn outputs(&self) -> usize {
        match &self.schema.task {
            Task::Classification(classes) => classes.len(),
            Task::Regression(n) => usize::from(*n),
        }
    }

    fn consistent(&self) -> Result<(), BundleError> {
        let wrong = |what: String| Err(BundleError::Inconsistent(what));
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let features = &self.baseline.features;
        if features.is_empty() || features.len() > FEATURES_MAX {
            return wrong(format!(
                "{BASELINE_FILE} has {} features, and 1 to {FEATURES_MAX} are possible",
                features.len()
            ));
        }
        for (at, feature) in features.iter().enumerate() {
            let fits = match feature.role {
                Role::Input(i) => usize::from(i) == at,
                Role::Output(i) => at >= inputs && usize::from(i) < outputs,
                Role::PredictedClass | Role::Confidence | Role::Entropy => at >= inputs,
                Role::Joint => at >= inputs && self.baseline.joint.is_some(),
            };
            if !fits {
                return wrong(format!("{BASELINE_FILE} has feature {} in the wrong place", feature.name));
            }
            if feature.counts.len() != feature.cells.len() {
                return wrong(format!("{BASELINE_FILE} has another number of counts than cells for {}", feature.name));
            }
        }
        if let Some(calibration) = &self.baseline.calibration
            && let Err(why) = calibration.check(self.schema.task.classes())
        {
            return wrong(format!("{BASELINE_FILE}: {why}"));
        }
        if self.baseline.joint.as_ref().is_some_and(|joint| !joint.fits(inputs)) {
            return wrong(format!("{BASELINE_FILE} has components that do not fit its inputs"));
        }
        if let Some(embedded) = &self.baseline.embedding
            && !(embedded.is_possible() && self.baseline.joint.is_some() && inputs <= embedding::INPUTS_MAX)
        {
            return wrong(format!("{BASELINE_FILE} has an embedding that does not fit its inputs"));
        }
        if inputs == 0 || outputs == 0 {
            return wrong("the bundle describes a model without inputs or outputs".into());
        }
        if self.schema.window_ms == 0 || self.schema.window_ms > WINDOW_MS_MAX {
            return wrong(format!("{SCHEMA_FILE} has windows of {} ms", self.schema.window_ms));
        }
        if let Some(projection) = &self.projection {
            if self.schema.sampled.is_none() {
                return wrong(format!(
                    "{EMBEDDING_FILE} belongs to signals and images, and {SCHEMA_FILE} describes rows"
                ));
            }
            if let Err(why) = projection::check(projection) {
                return wrong(format!("{EMBEDDING_FILE} has {why}"));
            }
        }
        let taken = self.model_inputs();
        if let Some(sampled) = &self.schema.sampled {
            if matches!(sampled, Sampled::Image { channels, .. } if ![1, 3].contains(channels)) {
                return wrong(format!("{SCHEMA_FILE} describes images that have neither one nor three channels"));
            }
            let of_embedding = self.projection.as_ref().map_or(0, |projection| projection::names(projection).len());
            let derived = derived::names(sampled).len() + of_embedding;
            if taken == 0 || taken > SAMPLE_VALUES_MAX || derived != inputs {
                return wrong(format!(
                    "{SCHEMA_FILE} describes samples of {taken} numbers of which {derived} are watched, and {BASELINE_FILE} has {inputs}"
                ));
            }
        }
        let golden = &self.golden;
        let rows_fit = golden.inputs.len() == golden.outputs.len()
            && golden.inputs.iter().all(|row| row.len() == taken)
            && golden.outputs.iter().all(|row| row.len() == outputs);
        if !rows_fit || golden.tolerance.is_nan() || golden.tolerance < 0.0 {
            return wrong(format!("{GOLDEN_FILE} does not fit a model of {taken} inputs and {outputs} outputs"));
        }
        Ok(())
    }
}

/// Reads and checks a manifest before any of its files is fetched or read.
pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest, BundleError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        let (file, bytes) = (MANIFEST_FILE.into(), bytes.len() as u64);
        return Err(BundleError::TooLarge { file, bytes, max: MANIFEST_BYTES_MAX as u64 });
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| BundleError::Manifest(e.to_string()))?;
    format(MANIFEST_FILE, manifest.format, manifest::FORMAT)?;
    for needed in [MODEL_FILE, BASELINE_FILE, SCHEMA_FILE, GOLDEN_FILE] {
        if manifest.file(needed).is_none() {
            return Err(BundleError::Missing(needed.into()));
        }
    }
    let mut total = 0u64;
    for (at, entry) in manifest.files.iter().enumerate() {
        let name = entry.name.as_str();
        let repeated = manifest.files.iter().take(at).any(|f| f.name == entry.name);
        if repeated || name == MANIFEST_FILE {
            return Err(BundleError::Manifest(format!("{name} is listed where it does not belong")));
        }
        let max = if name == MODEL_FILE { BUNDLE_BYTES_MAX } else { JSON_BYTES_MAX };
        total = total.saturating_add(entry.bytes);
        if entry.bytes > max || total > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge { file: name.into(), bytes: entry.bytes, max });
        }
    }
    Ok(manifest)
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn check_file(entry: &FileEntry, bytes: &[u8]) -> Result<(), BundleError> {
    let (file, found) = (entry.name.to_string(), bytes.len() as u64);
    if found != entry.bytes {
        return Err(BundleError::Length { file, found, wanted: entry.bytes });
    }
    if sha256(bytes) != entry.sha256 { Err(BundleError::Digest { file }) } else { Ok(()) }
}

fn format(file: &'static str, found: u32, wanted: u32) -> Result<(), BundleError> {
    if found == wanted { Ok(()) } else { Err(BundleError::Format { file, found, wanted }) }
}

fn to_json<T: serde::Serialize>(file: &'static str, value: &T) -> Result<Vec<u8>, BundleError> {
    let mut bytes = serde_json::to_vec(value).map_err(|e| BundleError::Json { file, reason: e.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a file's JSON after its format number: another format may have other fields.
fn from_json<T: serde::de::DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, BundleError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: Option<u32>,
    }
    let json = |e: serde_json::Error| BundleError::Json { file, reason: e.to_string() };
    let wanted = if file == BASELINE_FILE { baseline::FORMAT } else { manifest::FORMAT };
    if let Some(found) = serde_json::from_slice::<Head>(bytes).map_err(json)?.format {
        format(file, found, wanted)?;
    }
    serde_json::from_slice(bytes).map_err(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_bundle_survives_packing_and_a_directory() {
        let bundle = testing::bundle("v1", 4, 2, 1.0);
        let unpacked = Bundle::unpack(&bundle.pack()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        bundle.write(&dir.path().join("b")).unwrap();
        let read = Bundle::read(&dir.path().join("b")).unwrap();
        for other in [unpacked, read] {
            assert_eq!(other.digest(), bundle.digest());
            assert_eq!(other.golden(), bundle.golden());
            assert_eq!(other.schema(), bundle.schema());
            assert_eq!(other.baseline(), bundle.baseline());
        }
        assert_eq!((bundle.inputs(), bundle.outputs()), (4, 2));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let packed = testing::bundle("v1", 4, 2, 1.0).pack();
        let digest = Bundle::unpack(&packed).unwrap().digest();
        for at in 0..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 1;
            // A changed manifest may still be a manifest, but then it is another release.
            assert!(Bundle::unpack(&changed).map_or(true, |b| b.digest() != digest), "byte {at}");
        }
        for end in [0, 3, 8, packed.len() / 2, packed.len() - 1] {
            assert!(Bundle::unpack(&packed[..end]).is_err());
        }
        let longer = [&packed[..], b"x"].concat();
        assert!(matches!(Bundle::unpack(&longer), Err(BundleError::Packed)));
    }

    #[test]
    fn a_file_that_is_not_the_listed_one_is_named() {
        let bundle = testing::bundle("v1", 4, 2, 1.0);
        let dir = tempfile::tempdir().unwrap();
        bundle.write(dir.path()).unwrap();
        let mut model = bundle.model().to_vec();
        model[10] ^= 1;
        std::fs::write(dir.path().join(MODEL_FILE), &model).unwrap();
        let error = Bundle::read(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("model.onnx does not match the manifest's SHA-256"), "{error}");
        model.push(0);
        std::fs::write(dir.path().join(MODEL_FILE), &model).unwrap();
        assert!(matches!(Bundle::read(dir.path()), Err(BundleError::Length { .. })));
        std::fs::remove_file(dir.path().join(MODEL_FILE)).unwrap();
        assert!(Bundle::read(dir.path()).unwrap_err().to_string().contains("model.onnx cannot be opened"));
    }

    #[test]
    fn sizes_are_checked_before_anything_is_fetched() {
        let manifest = String::from_utf8(testing::bundle("v1", 4, 2, 1.0).manifest_bytes().to_vec()).unwrap();
        let bytes = manifest.split("\"bytes\":").nth(1).unwrap().split(',').next().unwrap();
        let huge = manifest.replacen(bytes, "9999999999999", 1);
        assert!(matches!(parse_manifest(huge.as_bytes()), Err(BundleError::TooLarge { .. })));
        let renamed = manifest.replacen("golden.json", "other.json", 1);
        assert_eq!(
            parse_manifest(renamed.as_bytes()).unwrap_err().to_string(),
            "the bundle has no golden.json: create the bundle again"
        );
        let later = manifest.replacen("\"format\":1", "\"format\":2", 1);
        assert!(parse_manifest(later.as_bytes()).unwrap_err().to_string().contains("format 2"));
        assert!(parse_manifest(b"{}").is_err());
        assert!(parse_manifest(&[b' '; MANIFEST_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn files_that_do_not_fit_each_other_are_refused() {
        let good = testing::bundle("v1", 4, 2, 1.0);
        let mut baseline = good.baseline().clone();
        baseline.features.swap(0, 1);
        let (model, release) = (&good.manifest().model, &good.manifest().release);
        let create = |b: &HeapBaseline, s: &Schema, g: &HeapGolden| {
            Bundle::create(model, release, good.model().to_vec(), b, s, g, None).map(drop).map_err(|e| e.to_string())
        };
        assert!(create(&baseline, good.schema(), good.golden()).unwrap_err().contains("wrong place"));
        assert!(
            create(good.baseline(), &testing::schema(3), good.golden())
                .unwrap_err()
                .contains("golden.json does not fit")
        );
        let schema = Schema { window_ms: 0, ..good.schema().clone() };
        assert!(create(good.baseline(), &schema, good.golden()).unwrap_err().contains("windows of 0 ms"));
    }
}
