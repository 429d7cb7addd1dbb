//! The embedded store: SQLite in WAL mode with full synchronisation, and the bundle files beside it.
//!
//! One call of [`Store::commit`] is one transaction; when it returns, the batch survives a power cut. Names follow the ledger design:
//! `ledger`, `window` (one row per device window), `fleet_window` (merged, replaced on late arrivals), `dead_letter`. Integers of 64
//! bits are kept as the signed number of the same bits. Leaves out several collectors on one store.

use crate::device::Device;
use crate::history::{Group, TRUTHS_MAX, Truths};
use crate::ledger::Entry;
use crate::record::{REPLAY_SLOTS, Stored, Write};
use crate::release::Release;
use driftline_shared::manifest::{BASELINE_FILE, Digest, Manifest, SCHEMA_FILE};
use driftline_shared::units::{Name, ReleaseId, Seq, Stream, WallMs, partition};
use driftline_shared::window::Window;
use driftline_shared::wire::{FRAME_BYTES_MAX, Frame, pack};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Version of the schema below.
const SCHEMA_VERSION: i64 = 1;
/// Dead letters kept.
const DEAD_LETTERS_MAX: i64 = 10_000;
/// How long devices' windows are kept.
const WINDOW_MS_KEPT: u64 = 7 * 86_400_000;
/// How long merged windows and events are kept.
const FLEET_WINDOW_MS_KEPT: u64 = 400 * 86_400_000;
/// Incidents and rollouts read back at the start.
const READ_BACK_MAX: i64 = 1_000;

const SCHEMA: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE ledger(p INTEGER NOT NULL, device TEXT NOT NULL, stream INTEGER NOT NULL, hw INTEGER NOT NULL, mask INTEGER NOT NULL,
  lost INTEGER NOT NULL, last_seq INTEGER NOT NULL, last_crc INTEGER NOT NULL);
CREATE UNIQUE INDEX ledger_key ON ledger(p, device, stream);
CREATE TABLE window(p INTEGER NOT NULL, device TEXT NOT NULL, release INTEGER NOT NULL, slot INTEGER NOT NULL, at INTEGER NOT NULL,
  body BLOB NOT NULL);
CREATE INDEX window_slot ON window(release, slot);
CREATE INDEX window_at ON window(at);
CREATE TABLE fleet_window(release INTEGER NOT NULL, cohort TEXT, slot INTEGER NOT NULL, at INTEGER NOT NULL, rev INTEGER NOT NULL,
  body BLOB NOT NULL);
CREATE UNIQUE INDEX fleet_window_key ON fleet_window(release, ifnull(cohort, ''), cohort IS NULL, slot);
CREATE INDEX fleet_window_at ON fleet_window(at);
CREATE TABLE dead_letter(id INTEGER PRIMARY KEY, p INTEGER NOT NULL, device TEXT NOT NULL, stream INTEGER, seq INTEGER,
  reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE device(p INTEGER NOT NULL, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE release(id INTEGER NOT NULL UNIQUE, manifest BLOB NOT NULL, added INTEGER NOT NULL);
CREATE TABLE incident(id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE rollout(id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE event(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL);
";

/// Tables that came after the first version; a program of that version does not look at them.
const MORE: &str = "
CREATE TABLE IF NOT EXISTS truth(release INTEGER NOT NULL, cohort TEXT, slot INTEGER NOT NULL, at INTEGER NOT NULL,
  labelled INTEGER NOT NULL, correct INTEGER NOT NULL, confusion TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS truth_key ON truth(release, ifnull(cohort, ''), cohort IS NULL, slot);
CREATE INDEX IF NOT EXISTS truth_at ON truth(at);
CREATE TABLE IF NOT EXISTS detectors(release INTEGER PRIMARY KEY, settled INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS evidence(id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS label_queue(batch INTEGER PRIMARY KEY, device TEXT NOT NULL, frame BLOB NOT NULL);
";

/// Why the store does not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder.
    #[error("{path} {what}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// Somebody else has it.
    #[error("another driftline uses {0} already; stop it, or choose another data_dir")]
    Locked(PathBuf),
    /// Written by a newer program.
    #[error(
        "{path} was written by a newer driftline (schema {found}, this one reads {SCHEMA_VERSION}); update this program"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// The database.
    #[error("the database {path} failed: {source}")]
    Database {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A row that this program cannot have written.
    #[error("the database holds {what} that does not read; restore a backup of the data folder")]
    Damaged {
        /// What.
        what: &'static str,
    },
}

type Result<T> = std::result::Result<T, StoreError>;

/// The store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    files: PathBuf,
    db: Connection,
    /// Held for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens or creates the store in a folder.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = |path: &Path, what| {
            let path = path.to_owned();
            move |source| StoreError::File { path, what, source }
        };
        let files = dir.join("files");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&files).map_err(file(&files, "cannot be created"))?;
        let lock_path = dir.join("lock");
        let lock = private(&lock_path).map_err(file(&lock_path, "cannot be opened"))?;
        lock.try_lock().map_err(|_| StoreError::Locked(dir.to_owned()))?;
        let path = dir.join("driftline.sqlite");
        // SQLite gives its side files the mode of the database.
        private(&path).map_err(file(&path, "cannot be opened"))?;
        let failed = |source| StoreError::Database { path: path.clone(), source };
        let mut db = Connection::open(&path).map_err(failed)?;
        db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;")
            .map_err(failed)?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer { path, found: version });
        }
        if version == 0 {
            let tx = db.transaction().map_err(failed)?;
            tx.execute_batch(SCHEMA)
                .and_then(|()| tx.pragma_update(None, "user_version", SCHEMA_VERSION))
                .map_err(failed)?;
            tx.commit().map_err(failed)?;
        }
        db.execute_batch(MORE).map_err(failed)?;
        Ok(Self { path, files, db, _lock: lock })
    }

    /// Counts a start of the program and returns how many there were.
    pub fn next_epoch(&mut self) -> Result<u64> {
        let sql =
            "INSERT INTO meta VALUES('epoch', 1) ON CONFLICT(key) DO UPDATE SET value = value + 1 RETURNING value";
        let epoch: i64 = self.db.query_row(sql, [], |row| row.get(0)).map_err(|e| self.failed(e))?;
        Ok(epoch as u64)
    }

    /// Everything that a collector is rebuilt from.
    pub fn load(&self, epoch: u64) -> Result<Stored> {
        let releases = self.releases()?;
        let mut stored = Stored { epoch, ..Stored::default() };
        stored.ledger = self
            .rows("SELECT device, stream, hw, mask, lost, last_seq, last_crc FROM ledger ORDER BY rowid", [], |row| {
                let entry = Entry {
                    through: Seq(unsigned(row.get(2)?)),
                    mask: unsigned(row.get(3)?),
                    lost: unsigned(row.get(4)?),
                    last_seq: Seq(unsigned(row.get(5)?)),
                    last_crc: row.get(6)?,
                };
                Ok((row.get::<_, String>(0)?, Stream(unsigned(row.get(1)?)), entry))
            })?
            .into_iter()
            .map(|(device, stream, entry)| Ok((name(&device, "a device name")?, stream, entry)))
            .collect::<Result<_>>()?;
        let devices = self.rows("SELECT name, body FROM device", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        for (device, body) in devices {
            stored.devices.push((name(&device, "a device name")?, json::<Device>(&body, "a device")?));
        }
        for release in &releases {
            let id = signed(release.id.0);
            let newest: Option<i64> = self.one("SELECT max(slot) FROM window WHERE release = ?1", [id])?.flatten();
            let Some(newest) = newest else { continue };
            let body: Option<Vec<u8>> = self.one("SELECT body FROM detectors WHERE release = ?1", [id])?;
            let settled: Option<i64> = self.one("SELECT settled FROM detectors WHERE release = ?1", [id])?;
            stored.detectors.extend(body.map(|body| (release.id, body)));
            // Where windows are rare, those since the detectors' state go further back.
            let from = newest.saturating_sub(REPLAY_SLOTS as i64).min(settled.unwrap_or(i64::MAX));
            let windows = self.rows(
                "SELECT device, slot, body FROM window WHERE release = ?1 AND slot > ?2 ORDER BY slot",
                params![id, from],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)),
            )?;
            for (device, slot, body) in windows {
                stored.windows.push((name(&device, "a device name")?, unsigned(slot), unpack(&body)?));
            }
            let merged = self.rows(
                "SELECT cohort, slot, body FROM fleet_window WHERE release = ?1 AND slot > ?2 ORDER BY slot",
                params![id, newest.saturating_sub(crate::history::SLOTS_MAX as i64)],
                |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)),
            )?;
            for (cohort, slot, body) in merged {
                let group = cohort.map_or(Group::Fleet, Group::Cohort);
                stored.fleet_windows.push((group, unsigned(slot), unpack(&body)?));
            }
        }
        stored.releases = releases;
        stored.truths = self.truths()?;
        stored.labels = self.labels()?;
        stored.evidence = self.documents("evidence")?;
        stored.incidents = self.documents("incident")?;
        stored.rollouts = self.documents("rollout")?;
        Ok(stored)
    }

    /// Stores a batch, all of it or nothing.
    pub fn commit(&mut self, writes: &[Write]) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        // Files first: a row must never name a file that is not there.
        for write in writes {
            if let Write::Release { files, .. } = write {
                for (entry, bytes) in files {
                    self.keep_file(entry.sha256, bytes)?;
                }
            }
        }
        let path = &self.path;
        let failed = |source| StoreError::Database { path: path.clone(), source };
        let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        for write in writes {
            apply(&tx, write).map_err(failed)?;
        }
        tx.commit().map_err(failed)
    }

    /// Part of a bundle's file; `None` when there is no such file or part.
    pub fn block(&self, file: Digest, offset: u64, bytes: usize) -> Option<Vec<u8>> {
        let mut file = File::open(self.files.join(file.to_string())).ok()?;
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut block = Vec::with_capacity(bytes);
        file.take(bytes as u64).read_to_end(&mut block).ok()?;
        (!block.is_empty()).then_some(block)
    }

    /// Forgets what is older than its time.
    pub fn prune(&mut self, now: WallMs) -> Result<()> {
        let before = |kept: u64| signed(now.0.saturating_sub(kept));
        let steps = [
            ("DELETE FROM window WHERE at < ?1", before(WINDOW_MS_KEPT)),
            ("DELETE FROM fleet_window WHERE at < ?1", before(FLEET_WINDOW_MS_KEPT)),
            ("DELETE FROM truth WHERE at < ?1", before(FLEET_WINDOW_MS_KEPT)),
            ("DELETE FROM event WHERE at < ?1", before(FLEET_WINDOW_MS_KEPT)),
            ("DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1", DEAD_LETTERS_MAX),
        ];
        steps.iter().try_for_each(|(sql, value)| self.db.execute(sql, [value]).map(|_| ())).map_err(|e| self.failed(e))
    }

    fn releases(&self) -> Result<Vec<Release>> {
        let rows = self.rows("SELECT manifest, added FROM release ORDER BY added, rowid", [], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
        })?;
        let damaged = || StoreError::Damaged { what: "a release" };
        rows.into_iter()
            .map(|(manifest, added)| {
                let parsed: Manifest = serde_json::from_slice(&manifest).map_err(|_| damaged())?;
                let part = |file| {
                    let entry = parsed.file(file).ok_or_else(damaged)?;
                    let path = self.files.join(entry.sha256.to_string());
                    fs::read(&path).map_err(|source| StoreError::File { path, what: "cannot be read", source })
                };
                let (baseline, schema) = (part(BASELINE_FILE)?, part(SCHEMA_FILE)?);
                Release::from_parts(&manifest, &baseline, &schema, WallMs(unsigned(added))).map_err(|_| damaged())
            })
            .collect()
    }

    fn truths(&self) -> Result<Vec<(crate::history::Place, Truths)>> {
        let rows = self.rows(
            "SELECT release, cohort, slot, labelled, correct, confusion FROM truth ORDER BY slot DESC LIMIT ?1",
            [TRUTHS_MAX as i64],
            |row| {
                let group = row.get::<_, Option<String>>(1)?.map_or(Group::Fleet, Group::Cohort);
                let place = (ReleaseId(unsigned(row.get(0)?)), group, unsigned(row.get(2)?));
                Ok((place, unsigned(row.get(3)?), unsigned(row.get(4)?), row.get::<_, String>(5)?))
            },
        )?;
        let read = |(place, labelled, correct, confusion): (_, _, _, String)| {
            Ok((place, Truths { labelled, correct, confusion: json(&confusion, "a confusion table")? }))
        };
        rows.into_iter().map(read).collect()
    }

    fn labels(&self) -> Result<Vec<(Name, u64, Vec<u8>)>> {
        let rows = self.rows("SELECT device, batch, frame FROM label_queue ORDER BY batch", [], |row| {
            Ok((row.get::<_, String>(0)?, unsigned(row.get(1)?), row.get::<_, Vec<u8>>(2)?))
        })?;
        let read = |(device, batch, frame): (String, u64, Vec<u8>)| Ok((name(&device, "a device name")?, batch, frame));
        rows.into_iter().map(read).collect()
    }

    fn documents<T: serde::de::DeserializeOwned>(&self, table: &'static str) -> Result<Vec<T>> {
        let sql = format!("SELECT body FROM (SELECT id, body FROM {table} ORDER BY id DESC LIMIT ?1) ORDER BY id");
        let bodies = self.rows(&sql, [READ_BACK_MAX], |row| row.get::<_, String>(0))?;
        bodies.iter().map(|body| json(body, table)).collect()
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let all = || -> rusqlite::Result<Vec<T>> { self.db.prepare(sql)?.query_map(values, read)?.collect() };
        all().map_err(|e| self.failed(e))
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str, values: impl rusqlite::Params) -> Result<Option<T>> {
        self.db.query_row(sql, values, |row| row.get(0)).optional().map_err(|e| self.failed(e))
    }

    /// Write-new, sync, rename: a bundle file is there whole or not at all.
    fn keep_file(&self, digest: Digest, bytes: &[u8]) -> Result<()> {
        let path = self.files.join(digest.to_string());
        if path.exists() {
            return Ok(());
        }
        let fresh = path.with_extension("new");
        let written = || -> std::io::Result<()> {
            let mut file = private(&fresh)?;
            file.set_len(0)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.files)?.sync_all()
        };
        written().map_err(|source| StoreError::File { path: path.clone(), what: "cannot be written", source })
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }
}

fn apply(tx: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| tx.prepare_cached(sql)?.execute(values).map(|_| ());
    match write {
        Write::Ledger { device, stream, entry } => run(
            "INSERT INTO ledger VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(p, device, stream) DO UPDATE
             SET hw = ?4, mask = ?5, lost = ?6, last_seq = ?7, last_crc = ?8",
            params![
                partition(device),
                device.as_str(),
                signed(stream.0),
                signed(entry.through.0),
                signed(entry.mask),
                signed(entry.lost),
                signed(entry.last_seq.0),
                entry.last_crc
            ],
        ),
        Write::Forget { device, stream } => run(
            "DELETE FROM ledger WHERE p = ?1 AND device = ?2 AND stream = ?3",
            params![partition(device), device.as_str(), signed(stream.0)],
        ),
        Write::Window { device, slot, window } => run(
            "INSERT INTO window VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                partition(device),
                device.as_str(),
                signed(window.release.0),
                signed(*slot),
                signed(window.start.0),
                packed(window)
            ],
        ),
        Write::FleetWindow { group, slot, window } => {
            let cohort = match group {
                Group::Fleet => None,
                Group::Cohort(name) => Some(name.as_str()),
            };
            let release = signed(window.release.0);
            let changed = tx
                .prepare_cached("UPDATE fleet_window SET rev = rev + 1, body = ?4 WHERE release = ?1 AND cohort IS ?2 AND slot = ?3")?
                .execute(params![release, cohort, signed(*slot), packed(window)])?;
            if changed > 0 {
                return Ok(());
            }
            run(
                "INSERT INTO fleet_window VALUES(?1, ?2, ?3, ?4, 0, ?5)",
                params![release, cohort, signed(*slot), signed(window.start.0), packed(window)],
            )
        }
        Write::Detectors { release, settled, body } => run(
            "INSERT OR REPLACE INTO detectors VALUES(?1, ?2, ?3)",
            params![signed(release.0), signed(*settled), body],
        ),
        Write::Truths { place: (release, group, slot), at, truths } => {
            let cohort = match group {
                Group::Fleet => None,
                Group::Cohort(name) => Some(name.as_str()),
            };
            let confusion = text(&truths.confusion);
            let (labelled, correct) = (signed(truths.labelled), signed(truths.correct));
            run(
                "INSERT OR REPLACE INTO truth VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![signed(release.0), cohort, signed(*slot), signed(at.0), labelled, correct, confusion],
            )
        }
        Write::LabelsQueued { device, batch, frame } => {
            run("INSERT INTO label_queue VALUES(?1, ?2, ?3)", params![signed(*batch), device.as_str(), frame])
        }
        Write::LabelsDone { batch } => run("DELETE FROM label_queue WHERE batch = ?1", params![signed(*batch)]),
        Write::DeadLetter { device, number, reason, body } => run(
            "INSERT INTO dead_letter(p, device, stream, seq, reason, body) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                partition(device),
                device.as_str(),
                number.map(|n| signed(n.0.0)),
                number.map(|n| signed(n.1.0)),
                reason,
                body
            ],
        ),
        Write::Device { name, device } => run(
            "INSERT INTO device VALUES(?1, ?2, ?3) ON CONFLICT(name) DO UPDATE SET body = ?3",
            params![partition(name), name.as_str(), text(device)],
        ),
        Write::Release { release, .. } => run(
            "INSERT INTO release VALUES(?1, ?2, ?3) ON CONFLICT(id) DO NOTHING",
            params![signed(release.id.0), release.manifest, signed(release.added.0)],
        ),
        Write::Incident(incident) => {
            run("INSERT OR REPLACE INTO incident VALUES(?1, ?2)", params![signed(incident.id), text(incident)])
        }
        Write::Rollout(rollout) => {
            run("INSERT OR REPLACE INTO rollout VALUES(?1, ?2)", params![signed(rollout.id), text(rollout)])
        }
        Write::Evidence(request) => {
            run("INSERT OR REPLACE INTO evidence VALUES(?1, ?2)", params![signed(request.id), text(request)])
        }
        Write::EvidenceGone(id) => run("DELETE FROM evidence WHERE id = ?1", params![signed(*id)]),
        Write::Event { at, kind, id } => {
            run("INSERT INTO event(at, kind, subject) VALUES(?1, ?2, ?3)", params![signed(at.0), kind, id])
        }
    }
}

/// A file that only this user may read, opened for reading and writing, created when absent.
fn private(path: &Path) -> std::io::Result<File> {
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The signed number of the same bits: SQLite has no unsigned ones.
fn signed(bits: u64) -> i64 {
    bits as i64
}

fn unsigned(bits: i64) -> u64 {
    bits as u64
}

/// A window as a frame of one: checksum and version come with it.
fn packed(window: &Window) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let len =
        pack::write(Stream(0), Seq(0), [window].into_iter(), &mut buffer).expect("any single window fits in a frame");
    buffer.truncate(len);
    buffer
}

fn unpack(body: &[u8]) -> Result<Box<Window>> {
    let damaged = StoreError::Damaged { what: "a window" };
    let window = Frame::parse(body).ok().and_then(|frame| pack::Windows::open(frame.payload)?.next().ok().flatten());
    window.map(Box::new).ok_or(damaged)
}

fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data becomes JSON")
}

fn json<T: serde::de::DeserializeOwned>(body: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(body).map_err(|_| StoreError::Damaged { what })
}

fn name(text: &str, what: &'static str) -> Result<Name> {
    Name::new(text).map_err(|_| StoreError::Damaged { what })
}
