//! From counts to a verdict: scores of the cells, the e-value of a window, and the detector that adds them up.
//!
//! The construction and the references of its proofs are in `docs/detection.md`.
//! [`distance`] and [`transport`] hold the figures other tools show (PSI, JS, KS, W1); they are displayed and never alarm.

pub mod design;
pub mod detector;
pub mod distance;
pub mod normal;
pub mod scores;
pub mod transport;
pub mod variance;
