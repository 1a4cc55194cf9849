//! The store on a real Postgres.

mod crash;
mod model;
mod reach;
mod rivals;
mod support;
