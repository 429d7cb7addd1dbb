//! What a Driftline agent and collector must agree on bit for bit.
//!
//! Read from the top: a reading is counted in a [`sketch`], a score in [`performance`] by a [`calibration`], a [`window`] holds one sketch
//! per feature and the scores' counts, an [`embedding`] how inputs lie together, a [`baseline`] says what was normal, [`drift`]
//! compares the two, [`estimate`] says how often the model is right, [`wire`] carries windows and answers between device and collector, and [`manifest`] describes the model
//! bundle both of them verify. [`random`] makes seeded numbers for simulations.
//!
//! The crate has no clock, no IO, no allocator and no std: the same arithmetic runs on a microcontroller, on a
//! gateway and in the collector. What only one end needs lives at that end.
#![no_std]
#![forbid(unsafe_code)]

pub mod baseline;
pub mod calibration;
pub mod drift;
pub mod embedding;
pub mod estimate;
pub mod joint;
pub mod list;
pub mod manifest;
pub mod performance;
pub mod random;
pub mod sketch;
pub mod units;
pub mod window;
pub mod wire;
