//! What happens before the first sample: directory, slot file, bundles, model.
//!
//! A committed slot wins over the configured bundle unless the operator has replaced that since. A release that no longer
//! loads gives way to the one before it; only a configured bundle that is broken when there is nothing else stops the start.

use super::disk::{Disk, DiskError};
use super::tls::TlsError;
use super::trial::Trial;
use crate::bundle::{Bundle, BundleError};
use crate::config::Config;
use crate::inference::{GoldenError, Model, ModelError};
use crate::observe::Profile;
use crate::slot::SlotFile;
use driftline_shared::manifest::{Digest, Guard};
use std::sync::Arc;

/// A model with what is watched of it.
pub(crate) type Loaded = (Model, Arc<Profile>);

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The configured bundle.
    #[error("the configured bundle cannot be used: {0}")]
    Release(#[from] ReleaseError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The password file.
    #[error("the password file {path} cannot be read ({source}): create it and let this user read it")]
    Password {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gives no random numbers or threads.
    #[error("the system refuses {what}: {reason}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        reason: String,
    },
}

impl StartError {
    /// Whether another agent has the directory.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Disk(DiskError::Locked { .. }))
    }
}

/// Why a release cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Its files.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its trial.
    #[error("{0}")]
    Trial(String),
    /// Its model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its golden rows.
    #[error("the model does not give its golden outputs ({0})")]
    Golden(#[from] GoldenError),
    /// The model's embedding is another one.
    #[error("the model's embedding has {found} numbers where its bundle has {wanted}")]
    Embedding {
        /// What the model gives.
        found: usize,
        /// What the bundle says.
        wanted: usize,
    },
    /// Model and bundle do not belong together.
    #[error("the model gives {found} outputs where its schema has {wanted}")]
    Outputs {
        /// What the model gives.
        found: usize,
        /// What the schema says.
        wanted: usize,
    },
}

/// Everything that was there at the start.
pub(crate) struct Started {
    pub disk: Disk,
    pub file: SlotFile,
    pub active: Option<Loaded>,
    /// The release before, where the active one's guard falls back to it.
    pub before: Option<Loaded>,
}

/// Loads a bundle's model and checks it against its golden rows.
pub(crate) fn load(bundle: &Bundle) -> Result<Loaded, ReleaseError> {
    let projection = bundle.projection();
    let tensor = projection.map(|projection| projection.tensor.as_str());
    let mut model = Model::with_embedding(bundle.model(), bundle.model_inputs(), tensor)?;
    if model.outputs() != bundle.outputs() {
        return Err(ReleaseError::Outputs { found: model.outputs(), wanted: bundle.outputs() });
    }
    // What it gave for zeros when it was loaded.
    let (found, wanted) = (model.embedding().len(), projection.map_or(0, |projection| projection.mean.len()));
    if found != wanted {
        return Err(ReleaseError::Embedding { found, wanted });
    }
    model.check(bundle.golden())?;
    Ok((model, Arc::new(Profile::of(bundle))))
}

/// Prepares the start. Blocks on the disk.
pub(crate) fn prepare(config: &Config, trial: &Trial) -> Result<Started, StartError> {
    let disk = Disk::open(&config.data_dir)?;
    let last = disk.slot_file();
    let has_slot = last.as_ref().is_some_and(|f| f.active.is_some());
    let configured = match configured(&disk, config, trial) {
        Ok(digest) => digest,
        Err(error) if has_slot => {
            tracing::warn!("the configured bundle cannot be used, so the last release goes on: {error}");
            last.as_ref().and_then(|f| f.configured)
        }
        Err(error) => return Err(error.into()),
    };
    let mut file = SlotFile::at_start(last, configured);
    let mut active = None;
    // Active, the one before, the configured one: each gets one try.
    while let Some(digest) = file.active {
        match disk.load(digest).map_err(ReleaseError::from).and_then(|bundle| load(&bundle)) {
            Ok(loaded) => {
                active = Some(loaded);
                break;
            }
            Err(error) if Some(digest) == configured && file.previous.is_none() && !has_slot => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::error!("release {digest} cannot run, the one before takes its place: {error}");
                file.fall_back(error.to_string(), false);
            }
        }
    }
    let falls_back = active.as_ref().is_some_and(|(_, p)| p.guard == Some(Guard::Fallback));
    let before = file.previous.filter(|_| falls_back).and_then(|digest| {
        let loaded = disk.load(digest).map_err(ReleaseError::from).and_then(|bundle| load(&bundle));
        loaded.inspect_err(|e| tracing::warn!("release {digest} cannot be fallen back to: {e}")).ok()
    });
    trial.loaded();
    disk.persist(&file)?;
    disk.tidy(&file.kept().collect::<Vec<_>>());
    Ok(Started { disk, file, active, before })
}

/// Verifies the configured bundle and keeps a copy, so that the operator may replace the original.
fn configured(disk: &Disk, config: &Config, trial: &Trial) -> Result<Option<Digest>, ReleaseError> {
    let Some(dir) = &config.bundle else { return Ok(None) };
    let bundle = Bundle::read(dir)?;
    if disk.load(bundle.digest()).is_err() {
        // New here.
        trial.of(dir).map_err(ReleaseError::Trial)?;
        disk.store(&bundle)?;
    }
    Ok(Some(bundle.digest()))
}
