//! Work that takes long, off the inference thread: writing the slot file, storing and loading releases.
//!
//! One at a time and in order, so that a result never overtakes an older one.

use super::disk::Disk;
use super::start::{Loaded, ReleaseError, load};
use super::trial::Trial;
use crate::bundle::Bundle;
use crate::slot::{SlotFile, StageFrom};
use driftline_shared::manifest::Digest;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Jobs waiting. The slot machine has a few at most: it waits for its results.
pub(crate) const JOBS_MAX: usize = 32;

/// Something to do; labels are what is remembered of samples at the end.
#[derive(Debug)]
pub(crate) enum Job {
    Persist { number: u64, file: SlotFile },
    Stage { digest: Digest, from: StageFrom },
    Tidy,
    KeepLabels(Vec<u8>),
}

/// Something done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a few at a time, and a loaded model is large in any form")]
pub(crate) enum Done {
    Persisted { number: u64, result: Result<(), String> },
    Staged { digest: Digest, result: Result<Loaded, String> },
}

/// Does jobs until nobody asks for more.
pub(crate) async fn run(
    disk: Disk,
    trial: Trial,
    file: SlotFile,
    mut jobs: mpsc::Receiver<Job>,
    done: mpsc::Sender<Done>,
) {
    let disk = Arc::new(disk);
    let mut last = file;
    while let Some(job) = jobs.recv().await {
        if let Job::Persist { file, .. } = &job {
            last = file.clone();
        }
        let (disk, trial, kept) = (disk.clone(), trial.clone(), last.kept().collect::<Vec<_>>());
        let work = tokio::task::spawn_blocking(move || work(&disk, &trial, job, &kept));
        let Ok(result) = work.await else {
            tracing::error!("a disk job broke off");
            continue;
        };
        if let Some(result) = result {
            // At the end nobody waits for it, and jobs may still come after it.
            let _ = done.send(result).await;
        }
    }
}

fn work(disk: &Disk, trial: &Trial, job: Job, kept: &[Digest]) -> Option<Done> {
    match job {
        Job::Persist { number, file } => {
            let result = disk.persist(&file).map_err(|e| e.to_string());
            Some(Done::Persisted { number, result })
        }
        Job::Stage { digest, from } => {
            let result = stage(disk, trial, digest, from).map_err(|e| e.to_string());
            Some(Done::Staged { digest, result })
        }
        Job::Tidy => {
            disk.tidy(kept);
            None
        }
        Job::KeepLabels(bytes) => {
            if let Err(e) = disk.keep_labels(&bytes) {
                tracing::warn!(
                    "what is remembered of samples cannot be written ({e}): truth that comes for them after the next start will find none"
                );
            }
            None
        }
    }
}

fn stage(disk: &Disk, trial: &Trial, digest: Digest, from: StageFrom) -> Result<Loaded, ReleaseError> {
    let bundle = match from {
        StageFrom::Fetched(manifest, files) => {
            let bundle = Bundle::from_files(manifest, files)?;
            disk.store(&bundle)?;
            bundle
        }
        StageFrom::Stored => disk.load(digest)?,
    };
    trial.of(&disk.release_dir(digest)).map_err(ReleaseError::Trial)?;
    let loaded = load(&bundle);
    trial.loaded();
    loaded
}
