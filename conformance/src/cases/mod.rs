//! The cases, one file for each area.

mod access;
mod ack;
mod admin;
mod cancel;
mod churn;
mod confirm;
mod dead;
mod delay;
mod edges;
mod flow;
mod frozen;
mod group;
mod lanes;
mod leaks;
mod lifecycle;
mod name;
mod network;
mod operator;
mod order;
mod poison;
mod publish;
mod scale;
mod transaction;

use crate::Case;

const AREAS: &[&[Case]] = &[
    publish::CASES,
    order::CASES,
    churn::CASES,
    confirm::CASES,
    network::CASES,
    frozen::CASES,
    lanes::CASES,
    dead::CASES,
    poison::CASES,
    ack::CASES,
    delay::CASES,
    cancel::CASES,
    flow::CASES,
    edges::CASES,
    group::CASES,
    lifecycle::CASES,
    leaks::CASES,
    name::CASES,
    admin::CASES,
    operator::CASES,
    access::CASES,
    transaction::CASES,
    scale::CASES,
];

/// All cases, by area.
pub fn all() -> impl Iterator<Item = &'static Case> {
    AREAS.iter().copied().flatten()
}
