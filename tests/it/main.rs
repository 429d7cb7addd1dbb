//! The one integration binary: what no single crate can test alone.

#![allow(clippy::disallowed_methods, reason = "tests of real processes wait for them")]

mod allocations;
mod bad_input;
mod bad_tables;
mod budgets;
mod categories;
mod compare;
mod conformance;
mod corpus;
mod detector;
mod evidence;
mod fleet;
mod gas;
mod golden;
mod guards;
#[cfg(feature = "influxdb")]
mod influx;
mod ingest;
mod paths;
mod performance;
mod samples;
mod service;
mod sim;
mod sources;
mod spool;
mod tidy;

#[global_allocator]
static ALLOCATOR: driftline_tests::allocations::Counting = driftline_tests::allocations::Counting;
