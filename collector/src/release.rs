//! A registered release: model, baseline and schema under one digest, checked when it arrives and immutable afterwards.
//!
//! The model file itself is not parsed here: whoever made the bundle ran it, and devices try it before they use it.

use driftline_shared::baseline::{self, FeatureBaseline, Role};
use driftline_shared::embedding::{self, Embedded};
use driftline_shared::manifest::{
    self, BASELINE_FILE, Digest, FILE_BYTES_MAX, FileEntry, MODEL_FILE, Manifest, SCHEMA_FILE, Schema, split_packed,
};
use driftline_shared::units::{Name, ReleaseId, WallMs};
use driftline_shared::window::FEATURES_MAX;
use sha2::{Digest as _, Sha256};

/// Largest spread between healthy devices that a baseline may claim, in standard deviations: beyond it nothing would ever be a change.
const SPREAD_MAX: f64 = 1e3;

/// A baseline with this end's storage.
pub type Baseline = baseline::Baseline<Vec<FeatureBaseline>>;

/// A file of a packed bundle and its bytes.
pub type File<'a> = (FileEntry, &'a [u8]);

/// One release.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// First eight bytes of the digest.
    pub id: ReleaseId,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// The manifest's exact bytes, as devices verify them.
    pub manifest: Vec<u8>,
    /// Model name.
    pub model: Name,
    /// Release name.
    pub name: Name,
    /// The files it consists of.
    pub files: Vec<FileEntry>,
    /// What was normal.
    pub baseline: Baseline,
    /// What goes in and comes out.
    pub schema: Schema,
    /// When it was registered.
    pub added: WallMs,
}

/// Why bytes are no release. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum BadRelease {
    /// Not the packed form.
    #[error(
        "this is no packed model bundle; make one with `driftline baselines create` and add it with `driftline models add`"
    )]
    NotABundle,
    /// A JSON file of the bundle does not parse.
    #[error("the bundle's {file} does not parse: {source}")]
    Json {
        /// Which file.
        file: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file is missing, of another length, or of another digest.
    #[error("the bundle's {file} is missing or is not what its manifest says; make the bundle again")]
    File {
        /// Which file.
        file: String,
    },
    /// A version this program does not read.
    #[error(
        "the bundle's {file} has format {format}; this program reads format {reads}: update driftline or make the bundle again"
    )]
    Format {
        /// Which file.
        file: &'static str,
        /// What it says.
        format: u32,
        /// What is read here.
        reads: u32,
    },
    /// The baseline contradicts itself.
    #[error("the bundle's baseline is impossible: {why}")]
    Baseline {
        /// What is wrong.
        why: String,
    },
}

impl Release {
    /// Checks a packed bundle whole; returns the release and its files' bytes in the manifest's order.
    pub fn unpack(packed: &[u8], added: WallMs) -> Result<(Self, Vec<File<'_>>), BadRelease> {
        let (manifest, mut rest) = split_packed(packed).ok_or(BadRelease::NotABundle)?;
        let parsed: Manifest = parse(manifest::MANIFEST_FILE, manifest)?;
        let mut files = Vec::new();
        for entry in parsed.files.iter() {
            let wrong = || BadRelease::File { file: entry.name.to_string() };
            let len = usize::try_from(entry.bytes.min(FILE_BYTES_MAX + 1)).map_err(|_| wrong())?;
            let (bytes, after) = rest.split_at_checked(len).ok_or_else(wrong)?;
            if sha256(bytes) != entry.sha256 {
                return Err(wrong());
            }
            files.push((entry.clone(), bytes));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(BadRelease::NotABundle);
        }
        let content = |name: &str| files.iter().find(|(f, _)| f.name.as_str() == name).map(|(_, bytes)| *bytes);
        let want = |name: &'static str| content(name).ok_or(BadRelease::File { file: name.into() });
        want(MODEL_FILE)?;
        let release = Self::from_parts(manifest, want(BASELINE_FILE)?, want(SCHEMA_FILE)?, added)?;
        Ok((release, files))
    }

    /// Rebuilds a release from the parts that the store keeps.
    pub fn from_parts(manifest: &[u8], baseline: &[u8], schema: &[u8], added: WallMs) -> Result<Self, BadRelease> {
        let parsed: Manifest = parse(manifest::MANIFEST_FILE, manifest)?;
        let schema: Schema = parse(SCHEMA_FILE, schema)?;
        let baseline: Baseline = parse(BASELINE_FILE, baseline)?;
        format_is(manifest::MANIFEST_FILE, parsed.format, manifest::FORMAT)?;
        format_is(SCHEMA_FILE, schema.format, manifest::FORMAT)?;
        format_is(BASELINE_FILE, baseline.format, baseline::FORMAT)?;
        possible(&baseline, &schema).map_err(|why| BadRelease::Baseline { why })?;
        let digest = sha256(manifest);
        Ok(Self {
            id: ReleaseId::of(&digest.0),
            digest,
            manifest: manifest.to_vec(),
            model: parsed.model.clone(),
            name: parsed.release.clone(),
            files: parsed.files.iter().cloned().collect(),
            baseline,
            schema,
            added,
        })
    }

    /// What the inputs' embedding was in training, and the place of the feature that a change of it is told of.
    pub fn embedded(&self) -> Option<(&Embedded, usize)> {
        let at = self.baseline.features.iter().position(|f| f.role == Role::Joint)?;
        self.baseline.embedding.as_ref().map(|embedded| (embedded, at))
    }

    /// The place of a feature by name.
    pub fn feature(&self, name: &str) -> Option<usize> {
        self.baseline.features.iter().position(|f| f.name.as_str() == name)
    }
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn parse<T: serde::de::DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, BadRelease> {
    serde_json::from_slice(bytes).map_err(|source| BadRelease::Json { file, source })
}

fn format_is(file: &'static str, format: u32, reads: u32) -> Result<(), BadRelease> {
    if format == reads { Ok(()) } else { Err(BadRelease::Format { file, format, reads }) }
}

/// What the arithmetic relies on: cells ascend, counts fit the cells, variances are numbers.
fn possible(baseline: &Baseline, schema: &Schema) -> Result<(), String> {
    use driftline_shared::sketch::{CELLS_MAX, Cells};
    if schema.window_ms < 100 {
        return Err(format!("a window of {} ms is too short; 100 ms is the least", schema.window_ms));
    }
    if baseline.features.is_empty() || baseline.features.len() > FEATURES_MAX {
        return Err(format!("it has {} features; 1 to {FEATURES_MAX} can be watched", baseline.features.len()));
    }
    if let Some(calibration) = &baseline.calibration {
        calibration.check(schema.task.classes())?;
    }
    let inputs = baseline.features.iter().filter(|f| f.role.is_input()).count();
    if baseline.joint.as_ref().is_some_and(|joint| !joint.fits(inputs)) {
        return Err(format!("its components do not fit its {inputs} inputs"));
    }
    if let Some(embedded) = &baseline.embedding
        && !(embedded.is_possible() && baseline.joint.is_some() && inputs <= embedding::INPUTS_MAX)
    {
        return Err("the embedding of its inputs is not whole, or they are too many".into());
    }
    for f in &baseline.features {
        if let Cells::Edges(edges) = &f.cells
            && !(edges.iter().all(|e| e.is_finite()) && edges.windows(2).all(|pair| pair[0] < pair[1]))
        {
            return Err(format!("the edges of {} do not ascend", f.name));
        }
        if f.cells.len() != f.counts.len() || f.cells.len() > CELLS_MAX {
            return Err(format!("{} has {} cells and {} counts", f.name, f.cells.len(), f.counts.len()));
        }
        let phi = &f.phi;
        let numbers = [phi.location, phi.scale, phi.top, phi.bottom, phi.share, f.mean, f.sd, f.tolerance];
        let odd = [f.spread(), f.spread_of_scale()].iter().any(|spread| !(0.0..=SPREAD_MAX).contains(spread));
        if numbers.iter().any(|x| !x.is_finite()) || odd || f.tolerance < 0.0 || f.sd < 0.0 {
            return Err(format!("{} has a variance or tolerance that is no number", f.name));
        }
        if let Some(season) = &f.season
            && !(matches!(season.slots.len(), 24 | 48) && season.slots.iter().all(|s| s.counts.len() == f.cells.len()))
        {
            return Err(format!("the hours of {} do not fit its cells", f.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::series::Scenario;
    use driftline_shared::manifest::Task;
    use driftline_shared::random::Random;

    #[test]
    fn a_spread_that_no_devices_have_is_refused() {
        let (sound, _) = Scenario::NULL[0].baseline(&mut Random::new(1), 0.1);
        let task = Task::Regression(1);
        let schema = Schema { format: 1, task, label: None, window_ms: 60_000, guard: None, sampled: None };
        assert_eq!(possible(&sound, &schema), Ok(()));
        for bad in [-1.0, 1e300, f64::NAN, f64::INFINITY] {
            for scale in [false, true] {
                let mut baseline = sound.clone();
                let of = &mut baseline.features[0];
                *(if scale { &mut of.omega_scale } else { &mut of.omega }) = Some(bad);
                let told = possible(&baseline, &schema);
                assert!(
                    told.is_err_and(|told| told.ends_with("has a variance or tolerance that is no number")),
                    "{bad}"
                );
            }
        }
    }
}
