//! Everything that touches the world: brokers, the store, HTTP and the task that drives the state machine.

#![allow(clippy::disallowed_methods, reason = "clocks are read here and nowhere else")]

pub mod broker;
pub mod driver;
pub mod http;
#[cfg(feature = "influxdb")]
pub mod influx;
pub mod live;
pub mod mqtt;
pub mod serve;
pub mod store;
mod tls;
pub mod transport;
mod turned_away;

pub use serve::{Ready, serve};
