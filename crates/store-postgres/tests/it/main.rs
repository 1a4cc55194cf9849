//! The store on a real Postgres.

mod crash;
mod cut;
mod model;
mod pooler;
mod proxy;
mod reach;
mod rivals;
mod support;
