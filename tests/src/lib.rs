//! What tests and benches share: seeded data, bundles, the allocation counter and the fleet simulator.

pub mod allocations;
pub mod normal;
pub mod pump_bundle;
pub mod sim;
pub mod watched;
