use partitura_lanes::LaneOptions;

use crate::subject::{Subject, Wrap};
use crate::{Case, Tier};

/// A broker that breaks one promise, and the case that finds it out.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// The case that must fail on it.
    pub breaks: &'static str,
    /// Its fault, in a sentence.
    pub what: &'static str,
    pub(crate) how: Breaks,
}

/// The place where a mutant differs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Breaks {
    /// Between the broker and all its users.
    Broker(Wrap),
    /// Between the broker and the lanes: the history has the effects of their requests.
    View(Wrap),
    /// In the options of the lanes.
    Options(fn(LaneOptions) -> LaneOptions),
    /// In a feature that the broker may lack, and that a sound twin adds.
    Twin { sound: Wrap, broken: Wrap },
}

impl Mutant {
    /// The subject that breaks the promise.
    pub(crate) fn broken(&self) -> Subject {
        let subject = Subject { name: self.name, mutant: Some(self.name), is_little: true, ..Subject::BROKER };
        match self.how {
            Breaks::Broker(wrap) | Breaks::Twin { broken: wrap, .. } => Subject { broker: Some(wrap), ..subject },
            Breaks::View(wrap) => Subject { view: Some(wrap), ..subject },
            Breaks::Options(change) => Subject { options: Some(change), ..subject },
        }
    }

    /// The subject that `case` has to pass before its failure on the mutant means something.
    pub(crate) fn sound(&self, case: &Case) -> Subject {
        match self.how {
            Breaks::Twin { sound, .. } => {
                Subject { name: self.name, is_little: true, broker: Some(sound), ..Subject::BROKER }
            }
            _ if case.tier == Tier::Four => Subject::LITTLE,
            _ => Subject::BROKER,
        }
    }
}

/// Makes a [`Mutant`]: its name, the case that it fails, a description, and a mutation of the broker, of the `view`
/// that lanes have of it, or of a `twin`; or a change of the lanes' `options`.
macro_rules! mutant {
    (@ $name:literal, $breaks:literal, $what:literal, $how:expr) => {
        $crate::mutants::mutant::Mutant { name: $name, breaks: $breaks, what: $what, how: $how }
    };
    (view $name:literal, $breaks:literal, $what:literal, $mutation:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::mutant::Breaks::View(|broker| wrap(broker, $mutation)))
    };
    (options $name:literal, $breaks:literal, $what:literal, $change:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::mutant::Breaks::Options($change))
    };
    (twin $name:literal, $breaks:literal, $what:literal, $sound:expr, $broken:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::mutant::Breaks::Twin {
            sound: |broker| wrap(broker, $sound),
            broken: |broker| wrap(broker, $broken),
        })
    };
    ($name:literal, $breaks:literal, $what:literal, $mutation:expr $(,)?) => {
        mutant!(@ $name, $breaks, $what, $crate::mutants::mutant::Breaks::Broker(|broker| wrap(broker, $mutation)))
    };
}
pub(super) use mutant;
