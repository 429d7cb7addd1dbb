//! The Driftline agent: runs an ONNX model on a device, sketches what goes in and out, and ships the sketches.
//!
//! Read from the top: [`config`] says which [`source`] gives samples ([`pumps`] simulates one, [`serving`] is asked by applications), [`signal`] makes samples of readings, a [`bundle`] holds the
//! release whose model [`inference`] runs, [`guard`] says what applications get where the model knows nothing, [`watch`] sees on the device that inputs have changed, [`observe`] picks what is watched, [`derived`] what of signals and images, [`projection`] what of the model's own embedding of them, [`windows`] sketches it, [`labels`] counts truth that
//! comes late, [`evidence`] keeps raw samples where that is wanted, [`spool`] keeps
//! closed windows until the collector has stored them, [`uplink`] decides what to send when, [`fetch`] and [`slot`]
//! bring new releases in, and [`agent`] is the state machine of all that. Only [`io`] touches clock, disk and network.
#![deny(unsafe_code)]

pub mod agent;
pub mod bundle;
pub mod config;
pub mod derived;
pub mod evidence;
pub mod fetch;
pub mod guard;
pub mod inference;
pub mod io;
pub mod labels;
pub mod observe;
pub mod projection;
pub mod pumps;
pub mod serving;
pub mod signal;
pub mod slot;
pub mod source;
pub mod spool;
pub mod uplink;
pub mod watch;
pub mod windows;

#[cfg(test)]
pub(crate) mod testing;
