//! Everything that touches the world: clock, disk, sources, network, and the driver that moves things between them.
//!
//! Nothing is decided here; decisions are the state machine's in [`crate::agent`].

#![allow(clippy::disallowed_methods, reason = "clocks are read here and nowhere else")]

pub mod answered;
pub mod bundle_dir;
pub mod clock;
pub(crate) mod command;
pub(crate) mod connections;
pub mod disk;
pub mod doctor;
pub mod driver;
pub mod images;
pub(crate) mod jobs;
pub(crate) mod link;
pub mod log;
pub mod mqtt;
pub mod record;
pub mod report;
pub(crate) mod sensors;
pub(crate) mod serving;
pub mod source;
pub mod spool_dir;
pub(crate) mod start;
pub mod status;
pub(crate) mod tls;
pub(crate) mod topic;
pub mod trial;
pub(crate) mod trim;
