//! Bringing a release to devices in stages that stop by themselves.
//!
//! [`plan`] is pure: which devices in which stage, under one hash. [`machine`] is the life of one rollout: it sends, counts, watches,
//! pauses and returns. Neither touches clock or network.

pub mod machine;
pub mod plan;
