//! Driftline's collector: merges what a fleet's agents sketched, detects drift, explains it, rolls out better models.
//!
//! Read from the top, in the order data flows: a frame is admitted once by the [`ledger`], decoded by [`ingest`], its windows
//! are merged in [`history`], compared with the [`release`]'s baseline in [`detect`], alarms with one cause become an
//! [`incident`], a [`rollout`] brings a better release out, and [`view`] says all of it in words. [`collector`] is the state
//! machine around them; only [`io`] touches clock, disk and sockets. Beside that flow, [`compare`] gives the numbers of other tools.

pub mod device;
pub mod release;

pub mod clocks;
pub mod collector;
pub mod detect;
pub mod history;
pub mod incident;
pub mod ingest;
pub mod ledger;
pub mod record;
pub mod rollout;

pub mod baseline;
pub mod calibration;
pub mod compare;
pub mod explain;
pub mod view;

pub mod evaluate;

pub mod config;
pub mod io;
