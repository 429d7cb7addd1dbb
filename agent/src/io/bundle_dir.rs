//! Bundles as directories.
//!
//! Written so that a directory with a manifest is complete: files first, each synced, the manifest last.

use crate::bundle::{Bundle, BundleError, parse_manifest};
use driftline_shared::manifest::{MANIFEST_BYTES_MAX, MANIFEST_FILE};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

impl Bundle {
    /// Reads and verifies a bundle directory.
    pub fn read(dir: &Path) -> Result<Self, BundleError> {
        let manifest_bytes = read_at_most(&dir.join(MANIFEST_FILE), MANIFEST_BYTES_MAX as u64)?;
        let manifest = parse_manifest(&manifest_bytes)?;
        let files = manifest.files.iter().map(|entry| {
            // One byte more than listed is enough to see that it is too long.
            read_at_most(&dir.join(entry.name.as_str()), entry.bytes.saturating_add(1))
        });
        let files = files.collect::<Result<Vec<_>, _>>()?;
        Self::from_files(manifest_bytes, files)
    }

    /// Writes the bundle into a directory, which is created, and syncs it.
    pub fn write(&self, dir: &Path) -> Result<(), BundleError> {
        make_dir(dir).map_err(io(dir, "cannot be created"))?;
        for (name, bytes) in self.files() {
            write_new(&dir.join(name), bytes).map_err(io(&dir.join(name), "cannot be written"))?;
        }
        sync_dir(dir).map_err(io(dir, "cannot be synced"))
    }
}

/// Replaces a file: written beside it, synced, renamed over it.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Makes a directory, and those above it, so that it lasts: its name stands in the one above.
pub(crate) fn make_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
    above.map_or(Ok(()), make_dir)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_dir(above.unwrap_or(Path::new(".")))
}

/// Makes a rename in a directory last.
pub(crate) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn read_at_most(path: &Path, max: u64) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io(path, "cannot be opened"))?;
    file.take(max).read_to_end(&mut bytes).map_err(io(path, "cannot be read"))?;
    Ok(bytes)
}

fn io<'a>(path: &'a Path, what: &'static str) -> impl Fn(std::io::Error) -> BundleError + 'a {
    move |reason| BundleError::Io { path: path.display().to_string(), what, reason }
}
