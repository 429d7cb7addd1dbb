//! Brings the files of a release to the device, block by block, over the same link as everything else.
//!
//! The device asks and the collector answers, a few blocks at a time; what is lost is asked for again. Every file is hashed as
//! it grows, so that no call does more work than one block needs, and is kept only when length and SHA-256 are what the
//! manifest says. Sizes were checked before the first byte of memory is taken. Progress is not kept across a restart.

use crate::bundle::{BundleError, parse_manifest};
use driftline_shared::manifest::{Digest, FileEntry, Manifest};
use driftline_shared::units::MonoMs;
use driftline_shared::wire::messages::{BLOCK_BYTES_MAX, Block, Request};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;

/// Blocks asked for and not yet there.
pub const BLOCKS_ASKED_MAX: usize = 4;
/// A block is asked for again after so long.
pub const BLOCK_RETRY_MS: u64 = 5_000;
/// Fetching fails when a block did not come after so many times of asking.
pub const BLOCK_TRIES_MAX: u32 = 24;

/// A release on its way.
#[derive(Debug)]
pub struct Fetch {
    manifest_bytes: Vec<u8>,
    manifest: Manifest,
    done: Vec<Vec<u8>>,
    growing: Growing,
}

/// The file that is being fetched.
#[derive(Debug, Default)]
struct Growing {
    bytes: Vec<u8>,
    hasher: Sha256,
    hashed: usize,
    /// First byte that was never asked for.
    fresh: usize,
    asked: VecDeque<Asked>,
}

#[derive(Debug)]
struct Asked {
    offset: usize,
    len: usize,
    /// `None`: to be asked at once.
    retry_at: Option<MonoMs>,
    tries: u32,
}

/// How fetching stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    Going,
    /// All files are there, in the manifest's order, and are what the manifest says.
    Done,
    /// It cannot succeed.
    Failed(String),
}

impl Fetch {
    /// Begins to fetch what a manifest lists.
    pub fn new(manifest_bytes: &[u8]) -> Result<Self, BundleError> {
        let manifest = parse_manifest(manifest_bytes)?;
        let manifest_bytes = manifest_bytes.to_vec();
        Ok(Self { manifest_bytes, manifest, done: Vec::new(), growing: Growing::default() })
    }

    /// Takes a block; one that nobody asked for changes nothing.
    pub fn block(&mut self, block: &Block<'_>) -> Progress {
        let Some(entry) = self.manifest.files.get(self.done.len()) else { return Progress::Done };
        if block.file != entry.sha256 || !self.growing.take(block) {
            return Progress::Going;
        }
        self.settle()
    }

    /// The next block to ask for.
    pub fn next_request(&mut self, now: MonoMs) -> Option<Request> {
        let entry = self.manifest.files.get(self.done.len())?;
        let (offset, len) = self.growing.next_range(now, file_len(entry))?;
        Some(Request::Block { file: entry.sha256, offset: offset as u64, bytes: len as u32 })
    }

    /// Checks for blocks that never come, and for files that need no block.
    pub fn tick(&mut self) -> Progress {
        if self.growing.asked.iter().any(|a| a.tries > BLOCK_TRIES_MAX) {
            let name = self.manifest.files.get(self.done.len()).map_or("", |f| f.name.as_str());
            return Progress::Failed(format!(
                "the collector did not send {name} although asked {BLOCK_TRIES_MAX} times"
            ));
        }
        self.settle()
    }

    /// Asks again for everything that was on its way: the link broke.
    pub fn ask_again(&mut self) {
        self.growing.asked.iter_mut().for_each(|a| a.retry_at = None);
    }

    /// When [`Fetch::next_request`] has something to ask for.
    pub fn poll_at(&self, now: MonoMs) -> Option<MonoMs> {
        let entry = self.manifest.files.get(self.done.len())?;
        self.growing.poll_at(now, file_len(entry))
    }

    /// The manifest's bytes and the files, once all are there.
    pub fn into_files(self) -> (Vec<u8>, Vec<Vec<u8>>) {
        (self.manifest_bytes, self.done)
    }

    /// Moves on over files that are complete.
    fn settle(&mut self) -> Progress {
        while let Some(entry) = self.manifest.files.get(self.done.len()) {
            if !self.growing.complete(file_len(entry)) {
                return Progress::Going;
            }
            let file = std::mem::take(&mut self.growing);
            if Digest(file.hasher.finalize().into()) != entry.sha256 {
                return Progress::Failed(format!("{} does not match the manifest's SHA-256", entry.name));
            }
            self.done.push(file.bytes);
        }
        Progress::Done
    }
}

impl Growing {
    fn take(&mut self, block: &Block<'_>) -> bool {
        let Ok(offset) = usize::try_from(block.offset) else { return false };
        let Some(at) = self.asked.iter().position(|a| a.offset == offset) else { return false };
        let asked = &mut self.asked[at];
        if block.bytes.is_empty() || block.bytes.len() > asked.len {
            return false;
        }
        let end = offset + block.bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(block.bytes);
        if block.bytes.len() == asked.len {
            self.asked.remove(at);
        } else {
            // A shorter answer than asked for is allowed: the rest is asked for next.
            *asked = Asked { offset: end, len: asked.len - block.bytes.len(), retry_at: None, tries: 0 };
        }
        self.hash_what_is_unbroken();
        true
    }

    /// Nothing is missing before the first byte that is still asked for.
    fn hash_what_is_unbroken(&mut self) {
        let end = self.asked.iter().map(|a| a.offset).min().unwrap_or(self.fresh).min(self.bytes.len());
        if end > self.hashed {
            self.hasher.update(&self.bytes[self.hashed..end]);
            self.hashed = end;
        }
    }

    fn complete(&self, len: usize) -> bool {
        self.hashed == len && self.asked.is_empty()
    }

    fn next_range(&mut self, now: MonoMs, len: usize) -> Option<(usize, usize)> {
        if let Some(asked) = self.asked.iter_mut().find(|a| a.retry_at.is_none_or(|at| now >= at)) {
            asked.retry_at = Some(now.after(BLOCK_RETRY_MS));
            asked.tries += 1;
            return Some((asked.offset, asked.len));
        }
        if self.fresh >= len || self.asked.len() >= BLOCKS_ASKED_MAX {
            return None;
        }
        let range = (self.fresh, BLOCK_BYTES_MAX.min(len - self.fresh));
        self.fresh += range.1;
        let retry_at = Some(now.after(BLOCK_RETRY_MS));
        self.asked.push_back(Asked { offset: range.0, len: range.1, retry_at, tries: 1 });
        Some(range)
    }

    fn poll_at(&self, now: MonoMs, len: usize) -> Option<MonoMs> {
        let more = self.fresh < len && self.asked.len() < BLOCKS_ASKED_MAX;
        if more { Some(now) } else { self.asked.iter().map(|a| a.retry_at.unwrap_or(now)).min() }
    }
}

fn file_len(entry: &FileEntry) -> usize {
    // `parse_manifest` bounds it to 64 MiB; on a 16-bit machine this would never complete, and fail by its tries.
    usize::try_from(entry.bytes).unwrap_or(usize::MAX)
}
