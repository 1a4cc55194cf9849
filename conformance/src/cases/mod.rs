//! The cases, one file for each area.

mod ack;
mod admin;
mod churn;
mod confirm;
mod dead;
mod delay;
mod edges;
mod floor;
mod flow;
mod group;
mod lifecycle;
mod order;
mod publish;
mod scale;
mod transaction;

use crate::Case;

const AREAS: &[&[Case]] = &[
    publish::CASES,
    order::CASES,
    churn::CASES,
    confirm::CASES,
    floor::CASES,
    dead::CASES,
    ack::CASES,
    delay::CASES,
    flow::CASES,
    edges::CASES,
    group::CASES,
    lifecycle::CASES,
    admin::CASES,
    transaction::CASES,
    scale::CASES,
];

/// All cases, by area.
pub fn all() -> impl Iterator<Item = &'static Case> {
    AREAS.iter().copied().flatten()
}
