//! The spool's directory, and the thread that writes to it, so that inference never waits for the disk.
//!
//! What comes within some seconds shares a write, and what the collector acknowledges within them is never written: with a link that
//! works hardly anything is. A disk that refuses is tried again; until it works frames are in
//! memory alone, which is said once.

use super::bundle_dir::{make_dir, sync_dir};
use super::report::{Counters, Trouble};
use crate::spool::journal::{Entry, Files, Found, Journal};
use crate::spool::names;
use driftline_shared::units::Stream;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Entries on their way to the thread.
const ENTRIES_MAX: usize = 256;
/// Streams that may leave, on their way from the thread.
const LEAVES_MAX: usize = 64;
/// A disk that refused is tried again after so long.
const RETRY: Duration = Duration::from_secs(5);
/// Inodes that stay free for others.
const INODES_MIN: u64 = 16;
/// Largest file that is read back: a segment has a megabyte and at most a frame more.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// One directory.
#[derive(Debug)]
pub struct SpoolDir {
    dir: PathBuf,
    /// Bytes that stay free for others.
    free: u64,
    /// The file that was written last, open.
    open: Option<(String, File)>,
}

impl SpoolDir {
    /// The directory, which is made when it is not there; `free` bytes of its disk are left to others.
    pub fn new(dir: &Path, free: u64) -> Self {
        if let Err(e) = make_dir(dir) {
            tracing::warn!(
                "the spool's directory {} cannot be made ({e}): windows are kept in memory alone",
                dir.display()
            );
        }
        Self { dir: dir.into(), free, open: None }
    }

    /// Refuses to take the last room of a disk that others live on too.
    fn room_for(&self, bytes: usize, new: bool) -> io::Result<()> {
        // A system that does not know has to be tried.
        let Ok(stat) = rustix::fs::statvfs(&self.dir) else { return Ok(()) };
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        let full = |text: String| Err(io::Error::new(io::ErrorKind::StorageFull, text));
        if self.free > 0 && available < self.free.saturating_add(bytes as u64) {
            return full(format!(
                "{} MiB are free, and spool.free_mb leaves {} MiB to others",
                available >> 20,
                self.free >> 20
            ));
        }
        // File systems that count no inodes say 0 of 0.
        if new && self.free > 0 && stat.f_files > 0 && stat.f_favail < INODES_MIN {
            return full(format!("{} inodes are free, and {INODES_MIN} are left to others", stat.f_favail));
        }
        Ok(())
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let mut options = OpenOptions::new();
            options.create(true).append(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(self.dir.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        self.open.as_mut().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for SpoolDir {
    fn list(&mut self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.collect())
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.dir.join(name))?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.open.as_ref().is_none_or(|(open, _)| open != name);
        if !name.ends_with(names::NEW) {
            // A cursor's few bytes let segments go, which makes room.
            self.room_for(bytes.len(), new)?;
        }
        self.file(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.open = None;
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open = None;
        fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        sync_dir(&self.dir)
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    /// `None` wakes the thread up.
    entries: SyncSender<Option<Entry>>,
    leaves: mpsc::Receiver<Stream>,
    ended: Receiver<()>,
    hurry: Arc<AtomicBool>,
}

/// When the thread writes, and where it counts what the disk refused.
struct Pace {
    delay: Duration,
    /// The agent ends: nothing waits for company any more.
    hurry: Arc<AtomicBool>,
    counters: Arc<Counters>,
    /// The directory stays this agent's for as long as the thread may write there.
    _lock: Arc<File>,
}

/// Reads what is there and starts the thread, which writes what came within `delay` together.
pub fn start(
    dir: &Path,
    free: u64,
    live: Stream,
    delay: Duration,
    counters: Arc<Counters>,
    lock: Arc<File>,
) -> io::Result<(Writer, Found)> {
    let (journal, found) = Journal::open(SpoolDir::new(dir, free), live);
    for sentence in &found.strange {
        tracing::warn!("spool: {sentence}");
    }
    let count = |trouble, many: usize| counters.troubles.add_many(trouble, many as u64);
    count(Trouble::SpoolTorn, found.torn as usize);
    count(Trouble::SpoolCorrupt, found.corrupt as usize);
    count(Trouble::SpoolForeign, found.foreign);
    if found.torn > 0 {
        tracing::info!(
            "the end of {} segments of the spool was cut off, as a power cut does: the rest is delivered",
            found.torn
        );
    }
    if found.corrupt > 0 {
        tracing::warn!(
            "the spool is damaged in {} places: what stood there is reported to the collector as lost, the rest is delivered",
            found.corrupt
        );
    }
    let (entries, inbox) = sync_channel(ENTRIES_MAX);
    let (end, ended) = sync_channel(1);
    let (leave, leaves) = mpsc::channel(LEAVES_MAX);
    let shown = dir.to_owned();
    let hurry = Arc::new(AtomicBool::new(false));
    let told = hurry.clone();
    std::thread::Builder::new().name("spool".into()).spawn(move || {
        write(journal, &inbox, &leave, &Pace { delay, hurry: told, counters, _lock: lock }, &shown);
        let _ = end.send(());
    })?;
    Ok((Writer { entries, leaves, ended, hurry }, found))
}

impl Writer {
    /// Hands over an entry; gives it back when the thread is behind.
    pub fn give(&self, entry: Entry) -> Result<(), Entry> {
        match self.entries.try_send(Some(entry)) {
            Err(TrySendError::Full(Some(entry)) | TrySendError::Disconnected(Some(entry))) => Err(entry),
            _ => Ok(()),
        }
    }

    /// The next stream whose frames may leave, since the disk knows that they do, or has refused to.
    pub async fn leaves(&mut self) -> Option<Stream> {
        self.leaves.recv().await
    }

    /// From now on everything is written at once.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
        // A full queue keeps the thread awake by itself.
        let _ = self.entries.try_send(None);
    }

    /// Waits until everything is written, at most so long.
    pub fn finish(self, patience: Duration) {
        drop((self.entries, self.leaves));
        let _ = self.ended.recv_timeout(patience);
    }
}

fn write(
    mut journal: Journal<SpoolDir>,
    inbox: &Receiver<Option<Entry>>,
    leave: &mpsc::Sender<Stream>,
    pace: &Pace,
    dir: &Path,
) {
    let mut refused = false;
    // When what waits is to be written.
    let mut due: Option<Instant> = None;
    loop {
        let entry = match due {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let mut leaves = None;
        match entry {
            Ok(None) => {}
            Ok(Some(entry)) => {
                if let Entry::Sends { stream, waits: true } = entry {
                    leaves = Some(stream);
                }
                journal.take(entry);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let waits = !pace.hurry.load(Ordering::Relaxed)
            && Instant::now() < *due.get_or_insert_with(|| Instant::now() + pace.delay);
        if leaves.is_none() && waits {
            continue;
        }
        let result = journal.commit();
        said(refused, &result, dir);
        refused = result.is_err();
        pace.counters.troubles.add_many(Trouble::SpoolRefused, refused.into());
        due = refused.then(|| Instant::now() + RETRY);
        if let Some(stream) = leaves {
            // Also when the disk refuses: delivery does not depend on it.
            let _ = leave.blocking_send(stream);
        }
    }
    said(refused, &journal.close(), dir);
    if journal.unsaved() > 0 {
        tracing::warn!("{} frames were never written to the spool", journal.unsaved());
    }
}

/// Says that the disk refuses, and that it works again, once each.
fn said(refused: bool, result: &io::Result<()>, dir: &Path) {
    match result {
        Err(e) if !refused => {
            let dir = dir.display();
            tracing::warn!(
                "the spool in {dir} cannot be written ({e}): windows are kept in memory until it can; make room or check the disk"
            );
        }
        Ok(()) if refused => tracing::info!("the spool in {} is written again", dir.display()),
        _ => {}
    }
}
