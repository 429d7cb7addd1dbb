//! The one integration binary: what no single crate can test alone.

mod detector;
mod fleet;
mod gas;
mod golden;
mod paths;
mod tidy;
