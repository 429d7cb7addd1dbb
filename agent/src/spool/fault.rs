//! A disk in memory whose power can be cut after any operation, and which can be full or broken: for tests and the simulator.
//!
//! What a cut leaves is what the promises of POSIX allow: of a file everything up to its last sync, and of what was added since a
//! part, or zeros in its place; names, renames and removals since the last sync of the directory in any selection.

use super::journal::Files;
use driftline_shared::random::Random;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// An operation that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Bytes at the end of a file.
    Append(String, Vec<u8>),
    /// A file, made to last.
    Sync(String),
    /// A file, over another.
    Rename(String, String),
    /// A file.
    Remove(String),
    /// Names, made to last.
    SyncNames,
}

#[derive(Debug, Default)]
struct State {
    /// What was there, and durable, at the beginning.
    base: BTreeMap<String, Vec<u8>>,
    log: Vec<Op>,
    files: BTreeMap<String, Vec<u8>>,
    full: bool,
    broken: bool,
    unsynced: bool,
}

/// What a disk writes at once.
const SECTOR: usize = 512;

/// A directory; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FaultFs(Rc<RefCell<State>>);

#[derive(Debug, Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

/// A change of names that is not synced.
enum Name {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl FaultFs {
    /// What was done.
    pub fn log(&self) -> Vec<Op> {
        self.0.borrow().log.clone()
    }

    /// Whether it is full: nothing can be added (half of it is), and names can still change.
    pub fn fill(&self, full: bool) {
        self.0.borrow_mut().full = full;
    }

    /// Whether it is broken: nothing can be changed.
    pub fn fail(&self, broken: bool) {
        self.0.borrow_mut().broken = broken;
    }

    /// Whether it takes what is added and cannot make it last.
    pub fn unsync(&self, unsynced: bool) {
        self.0.borrow_mut().unsynced = unsynced;
    }

    /// One of the disks that a power cut now can leave.
    pub fn power_cut(&self, random: &mut Random) -> Self {
        let state = self.0.borrow();
        Self::after(&state.base, &state.log, random)
    }

    /// One of the disks that a power cut after these operations on an empty one can leave.
    pub fn crash(log: &[Op], random: &mut Random) -> Self {
        Self::after(&BTreeMap::new(), log, random)
    }

    fn after(base: &BTreeMap<String, Vec<u8>>, log: &[Op], random: &mut Random) -> Self {
        let mut inodes: Vec<Inode> =
            base.values().map(|bytes| Inode { bytes: bytes.clone(), synced: bytes.len() }).collect();
        let mut now: BTreeMap<String, usize> = base.keys().cloned().zip(0..).collect();
        let mut durable = now.clone();
        let mut waiting: Vec<Name> = Vec::new();
        let change = |names: &mut BTreeMap<String, usize>, name: &Name| match name {
            Name::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Name::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Name::Remove(name) => {
                names.remove(name);
            }
        };
        for op in log {
            match op {
                Op::Append(name, bytes) => {
                    let inode = *now.entry(name.clone()).or_insert_with(|| {
                        waiting.push(Name::Create(name.clone(), inodes.len()));
                        inodes.push(Inode::default());
                        inodes.len() - 1
                    });
                    inodes[inode].bytes.extend(bytes);
                }
                Op::Sync(name) => {
                    let inode = &mut inodes[now[name]];
                    inode.synced = inode.bytes.len();
                }
                Op::Rename(from, to) => {
                    let name = Name::Rename(from.clone(), to.clone());
                    change(&mut now, &name);
                    waiting.push(name);
                }
                Op::Remove(name) => {
                    let name = Name::Remove(name.clone());
                    change(&mut now, &name);
                    waiting.push(name);
                }
                Op::SyncNames => {
                    waiting.drain(..).for_each(|name| change(&mut durable, &name));
                }
            }
        }
        let all = random.unit() < 0.3;
        waiting.iter().filter(|_| all || random.unit() < 0.5).for_each(|name| change(&mut durable, name));
        let left = |inode: &Inode, random: &mut Random| {
            let added = inode.bytes.len() - inode.synced;
            let kept = inode.synced + (random.unit() * (added + 1) as f64) as usize;
            let mut bytes = inode.bytes[..kept.min(inode.bytes.len())].to_vec();
            if random.unit() < 0.3 {
                // The size was written and the data was not.
                let zeros = bytes.len() - inode.synced;
                bytes.truncate(inode.synced);
                bytes.extend(vec![0; zeros]);
            } else if random.unit() < 0.3 {
                // Sectors reach the disk in any order.
                for at in inode.synced..bytes.len() {
                    if (at == inode.synced || at.is_multiple_of(SECTOR)) && random.unit() < 0.5 {
                        let end = (at / SECTOR + 1) * SECTOR;
                        let end = end.min(bytes.len());
                        bytes[at..end].fill(0);
                    }
                }
            }
            bytes
        };
        let files: BTreeMap<_, _> =
            durable.into_iter().map(|(name, inode)| (name, left(&inodes[inode], random))).collect();
        Self(Rc::new(RefCell::new(State { base: files.clone(), files, ..State::default() })))
    }

    fn act(&self, op: Op) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        if state.broken {
            return Err(io::Error::other("broken"));
        }
        if state.unsynced && matches!(op, Op::Sync(_) | Op::SyncNames) {
            return Err(io::Error::other("not synced"));
        }
        if let (true, Op::Append(name, bytes)) = (state.full, &op) {
            let half = bytes[..bytes.len() / 2].to_vec();
            state.files.entry(name.clone()).or_default().extend(&half);
            state.log.push(Op::Append(name.clone(), half));
            return Err(io::ErrorKind::StorageFull.into());
        }
        match &op {
            Op::Append(name, bytes) => state.files.entry(name.clone()).or_default().extend(bytes),
            Op::Rename(from, to) => {
                let bytes = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
                state.files.insert(to.clone(), bytes);
            }
            Op::Remove(name) => {
                state.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
            }
            Op::Sync(_) | Op::SyncNames => {}
        }
        state.log.push(op);
        Ok(())
    }
}

impl Files for FaultFs {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().files.keys().cloned().collect())
    }

    fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        self.0.borrow().files.get(name).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.act(Op::Append(name.into(), bytes.into()))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.act(Op::Sync(name.into()))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.act(Op::Rename(from.into(), to.into()))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.act(Op::Remove(name.into()))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.act(Op::SyncNames)
    }
}
