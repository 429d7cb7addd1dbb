//! The one integration binary: what no single crate can test alone.

mod detector;
mod golden;
mod tidy;
