//! What tests and benches share: seeded normal data, baselines made of it, and the fleet simulator.

pub mod normal;
