//! The data of a world. The files that are named like these, one level up and in `broker`, have the effects on it.

pub(crate) mod audit;
pub(crate) mod calls;
pub(crate) mod deletions;
pub(crate) mod group;
pub(crate) mod inbox;
pub(crate) mod keys;
pub(crate) mod member;
pub(crate) mod process;
pub(crate) mod topic;
