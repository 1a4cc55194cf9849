//! Values, there and back.

#![allow(clippy::unwrap_used)]

mod generated;
mod seen;
mod shapes;
mod values;
