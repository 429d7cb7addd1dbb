//! From merged windows to signals: which stream of windows does not come from its baseline any more.
//!
//! [`panel`] steps the detectors of `shared` for one release, in slot order, at three levels: device, cohort and fleet. A verdict
//! depends on the windows, not on the order they arrived in. What a signal means for people is the business of `incident`.

pub mod budget;
pub mod designs;
pub mod panel;
pub mod plan;
pub mod reference;
