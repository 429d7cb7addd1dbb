//! The agent's directory: the slot file, and a directory per release that must stay.
//!
//! `slots.json` is [`SlotFile`] as JSON; `slots/<digest>/` are bundles; `labels.samples` is what an agent that stopped remembered of its
//! samples; `lock` keeps a second agent out. Everything is replaced by write-new, fsync, rename.

use super::bundle_dir::{make_dir, sync_dir, write_new};
use crate::bundle::{Bundle, BundleError};
use crate::slot::{FORMAT, SlotFile};
use driftline_shared::manifest::Digest;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest file of samples that is read.
const LABELS_BYTES_MAX: u64 = 4 << 20;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be made or locked.
    #[error("the data directory {path} cannot be used ({source}): create it and let this user write there")]
    Directory {
        /// The directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent has it.
    #[error("another agent uses the data directory {path}: stop it, or give this agent a directory of its own")]
    Locked {
        /// The directory.
        path: String,
    },
    /// The slot file cannot be read or written.
    #[error("{path} cannot be stored ({source})")]
    SlotFile {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The agent's directory, held for as long as this lives.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    lock: Arc<File>,
    /// Slot files that could not be understood.
    unread: AtomicU64,
}

impl Disk {
    /// Makes and locks the directory.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        let path = || dir.display().to_string();
        let directory = |source| DiskError::Directory { path: path(), source };
        make_dir(&dir.join("slots")).map_err(directory)?;
        let lock = File::create(dir.join("lock")).map_err(directory)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.into(), lock: Arc::new(lock), unread: AtomicU64::new(0) }),
            Err(fs::TryLockError::WouldBlock) => Err(DiskError::Locked { path: path() }),
            Err(fs::TryLockError::Error(source)) => Err(directory(source)),
        }
    }

    /// Keeps other agents out of the directory for as long as it lives.
    pub fn lock(&self) -> Arc<File> {
        self.lock.clone()
    }

    /// How many slot files could not be understood.
    pub fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// What was written last; `None` when there is nothing or it cannot be understood. Never a reason not to start.
    pub fn slot_file(&self) -> Option<SlotFile> {
        let unread = || self.unread.fetch_add(1, Ordering::Relaxed);
        let path = self.slot_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            Err(e) => {
                unread();
                tracing::warn!("{} cannot be read ({e}): starting with the configured bundle", path.display());
                return None;
            }
        };
        #[derive(serde::Deserialize)]
        struct Head {
            format: u32,
            #[serde(default)]
            starts: u64,
        }
        // The number before the fields: a later format may have others.
        if let Ok(Head { format, starts }) = serde_json::from_slice(&bytes)
            && format != FORMAT
        {
            let kept = path.with_extension("later.json");
            let outcome = match fs::rename(&path, &kept) {
                Ok(()) => format!("it is kept as {}", kept.display()),
                Err(e) => format!("it cannot be kept ({e})"),
            };
            tracing::warn!(
                "{} has format {format}, this agent reads {FORMAT}: {outcome}, and the agent starts with the configured bundle",
                path.display()
            );
            unread();
            // Connections are numbered by starts, so that the last will of an old one is known as old.
            return Some(SlotFile { format: FORMAT, starts, committed: true, ..SlotFile::default() });
        }
        match serde_json::from_slice::<SlotFile>(&bytes) {
            Ok(file) => Some(file),
            Err(e) => {
                unread();
                tracing::warn!("{} is damaged ({e}): starting with the configured bundle", path.display());
                None
            }
        }
    }

    /// Replaces the slot file.
    pub fn persist(&self, file: &SlotFile) -> Result<(), DiskError> {
        let path = self.slot_path();
        let error = |source| DiskError::SlotFile { path: path.display().to_string(), source };
        let bytes = serde_json::to_vec_pretty(file).map_err(|e| error(e.into()))?;
        write_new(&path, &bytes).and_then(|()| sync_dir(&self.dir)).map_err(error)
    }

    /// Writes down what is remembered of samples.
    pub fn keep_labels(&self, bytes: &[u8]) -> std::io::Result<()> {
        write_new(&self.labels_path(), bytes).and_then(|()| sync_dir(&self.dir))
    }

    /// Takes what was written down. It goes: truth that comes from now on is not noted in it.
    pub fn take_labels(&self) -> Option<Vec<u8>> {
        let path = self.labels_path();
        let fits = fs::metadata(&path).ok()?.len() <= LABELS_BYTES_MAX;
        let bytes = if fits { fs::read(&path).ok() } else { None };
        fs::remove_file(&path).and_then(|()| sync_dir(&self.dir)).ok().and(bytes)
    }

    /// Keeps a release.
    pub fn store(&self, bundle: &Bundle) -> Result<(), BundleError> {
        let dir = self.release_dir(bundle.digest());
        // Already there when its files still are what the manifest says; else it is written anew.
        if Bundle::read(&dir).is_ok_and(|stored| stored.digest() == bundle.digest()) {
            return Ok(());
        }
        bundle.write(&dir)
    }

    /// Reads a kept release.
    pub fn load(&self, digest: Digest) -> Result<Bundle, BundleError> {
        let bundle = Bundle::read(&self.release_dir(digest))?;
        if bundle.digest() == digest { Ok(bundle) } else { Err(BundleError::Digest { file: "manifest.json".into() }) }
    }

    /// Removes releases that nothing refers to any more.
    pub fn tidy(&self, keep: &[Digest]) {
        let Ok(entries) = fs::read_dir(self.dir.join("slots")) else { return };
        for entry in entries.flatten() {
            let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
            if !digest.is_some_and(|d| keep.contains(&d))
                && let Err(e) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!("{} cannot be removed: {e}", entry.path().display());
            }
        }
    }

    fn labels_path(&self) -> PathBuf {
        self.dir.join("labels.samples")
    }

    fn slot_path(&self) -> PathBuf {
        self.dir.join("slots.json")
    }

    /// Where a release is kept.
    pub fn release_dir(&self, digest: Digest) -> PathBuf {
        self.dir.join("slots").join(digest.to_string())
    }
}
