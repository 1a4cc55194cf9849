use std::sync::Arc;

use partitura_broker::Broker;
use partitura_lanes::LaneOptions;

use super::{Breaks, Mutant};
use crate::{Case, Tier};

/// What a case is run on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    /// The broker as it is.
    Broker,
    /// The same, with a load that takes no minutes: what the mutants of such a case are compared with.
    Little,
    /// The sound twin of a mutant.
    Sound(&'static Mutant),
    /// A mutant.
    Broken(&'static Mutant),
}

impl Subject {
    /// On what the case has to pass before it is any use that it fails on the mutant.
    pub(crate) fn before(case: &Case, mutant: &'static Mutant) -> Self {
        match mutant.how {
            Breaks::Twin { .. } => Self::Sound(mutant),
            _ if case.tier == Tier::Four => Self::Little,
            _ => Self::Broker,
        }
    }

    /// Tells apart what cases can pass on.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Broker => "",
            Self::Little => "little",
            Self::Sound(mutant) | Self::Broken(mutant) => mutant.name,
        }
    }

    pub(crate) fn mutant(self) -> Option<&'static Mutant> {
        match self {
            Self::Broken(mutant) => Some(mutant),
            _ => None,
        }
    }

    /// The broker as the case sees it.
    pub(crate) fn broker(self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        match self {
            Self::Sound(Mutant { how: Breaks::Twin { sound, .. }, .. }) => sound(broker),
            Self::Broken(Mutant { how: Breaks::Broker(wrap) | Breaks::Twin { broken: wrap, .. }, .. }) => wrap(broker),
            _ => broker,
        }
    }

    /// The broker as the lanes of the case see it.
    pub(crate) fn broker_of_lanes(self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        match self {
            Self::Broken(Mutant { how: Breaks::View(wrap), .. }) => wrap(broker),
            _ => broker,
        }
    }

    /// How the lanes of the case behave.
    pub(crate) fn options(self, options: LaneOptions) -> LaneOptions {
        match self {
            Self::Broken(Mutant { how: Breaks::Options(change), .. }) => change(options),
            _ => options,
        }
    }
}
