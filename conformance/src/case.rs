use futures::future::BoxFuture;
use partitura_broker::{Capabilities, Durability};

use crate::{CaseResult, Env, Harness};

/// One property, and the function that checks it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `area.case`. It is the same here, in `docs/conformance.md`, and in the contract that promises it.
    pub id: &'static str,
    /// Its tier.
    pub tier: Tier,
    /// Its needs.
    pub needs: &'static [Need],
    /// The property, in a sentence.
    pub property: &'static str,
    pub(crate) run: Play,
    /// The parts that run in other processes, by name.
    pub(crate) parts: &'static [(&'static str, Play)],
}

/// A part of a case.
pub(crate) type Play = for<'e> fn(&'e Env) -> BoxFuture<'e, CaseResult>;

/// The kinds of faults and the load of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// No faults.
    One = 1,
    /// A client dies.
    Two = 2,
    /// The broker or the network fails.
    Three = 3,
    /// Load.
    Four = 4,
}

/// The needs of a case beyond the contract's obligations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The capability `supports.transactions`.
    Transactions,
    /// The capability `supports.deduplication`.
    Deduplication,
    /// The capability `supports.cancellation`.
    Cancellation,
    /// A receipt that survives the broker's process.
    Durability,
    /// The hook to start and kill processes.
    Processes,
    /// A way to kill the broker and to start it again.
    Restart,
    /// The hook to freeze the broker and to thaw it.
    Freeze,
    /// A broker to which several processes can be connected at once.
    Peers,
    /// A system that shows the memory, files and threads of a process in `/proc`.
    Proc,
    /// The hook to delete topics as an operator does.
    Operator,
    /// A broker whose topics can get more partitions.
    Growth,
    /// A broker that can tell how many messages it keeps.
    Count,
    /// The hook to connect through a proxy.
    Network,
    /// The hook to connect with right and wrong credentials.
    Access,
    /// Users who lack a single right.
    Rights,
    /// No other case at the same time: it measures time.
    Quiet,
}

/// The reason why a case cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The broker declares that it lacks the capability.
    Unsupported(&'static str),
    /// The harness has no such hook.
    NotVerified(&'static str),
    /// There is nothing to check: the subject of the case does not exist here.
    NotApplicable(&'static str),
}

impl Need {
    /// Whether a broker that lives in its client's process cannot have it.
    pub(crate) fn is_of_a_server(self) -> bool {
        use Need::{Access, Count, Freeze, Growth, Network, Operator, Peers, Rights};
        matches!(self, Freeze | Peers | Operator | Growth | Count | Network | Access | Rights)
    }

    /// Returns the missing part, if there is one.
    pub(crate) fn lacking(self, harness: &dyn Harness, capabilities: &Capabilities) -> Option<Lack> {
        let contained = harness.lives_in_its_client();
        let no_network = Lack::NotApplicable("the broker lives in its client's process, and has no network");
        let (there, lack) = match self {
            Self::Transactions => (capabilities.supports.transactions, Lack::Unsupported("declares no transactions")),
            Self::Deduplication => {
                (capabilities.supports.deduplication.is_some(), Lack::Unsupported("declares no deduplication"))
            }
            Self::Cancellation => (
                capabilities.supports.cancellation,
                Lack::Unsupported("declares that it cannot cancel delayed messages"),
            ),
            Self::Durability => (
                capabilities.durability > Durability::Memory,
                Lack::Unsupported("declares that a receipt survives nothing"),
            ),
            Self::Processes => (harness.processes().is_some(), Lack::NotVerified("the harness starts no processes")),
            Self::Restart => {
                (contained || harness.restart().is_some(), Lack::NotVerified("the harness cannot restart the broker"))
            }
            Self::Freeze | Self::Peers if contained => {
                (false, Lack::NotApplicable("the broker lives in its client's process, which has it for itself"))
            }
            Self::Freeze => (harness.freeze().is_some(), Lack::NotVerified("the harness cannot freeze the broker")),
            Self::Peers => return None,
            Self::Proc => (
                std::path::Path::new("/proc/self/status").exists(),
                Lack::NotVerified("this system does not show a process's memory in /proc"),
            ),
            Self::Operator => {
                (harness.operator().is_some(), Lack::NotApplicable("the harness has no operator of the broker"))
            }
            Self::Growth => (
                harness.operator().is_none_or(|operator| operator.adds_partitions()),
                Lack::NotApplicable("the partitions of a topic are fixed"),
            ),
            Self::Count => (
                harness.operator().is_none_or(|operator| operator.counts_messages()),
                Lack::NotApplicable("the operator cannot tell how many messages the broker keeps"),
            ),
            Self::Network | Self::Access | Self::Rights if contained => (false, no_network),
            Self::Network => {
                (harness.network().is_some(), Lack::NotVerified("the harness does not connect through a proxy"))
            }
            Self::Access => (harness.access().is_some(), Lack::NotVerified("the harness tries no credentials")),
            Self::Rights => (
                harness.access().is_none_or(|access| !access.rights().is_empty()),
                Lack::NotApplicable("the harness has no users who lack a single right"),
            ),
            Self::Quiet => return None,
        };
        (!there).then_some(lack)
    }
}

/// Makes a [`Case`]: id, tier, needs, property, the function that checks it, and the parts of other processes.
macro_rules! case {
    ($id:literal, $tier:ident, [$($need:ident),*], $property:literal, $run:ident $(, $part:ident)* $(,)?) => {
        $crate::Case {
            id: $id,
            tier: $crate::Tier::$tier,
            needs: &[$($crate::Need::$need),*],
            property: $property,
            run: |env| Box::pin($run(env)),
            parts: &[$((stringify!($part), |env| Box::pin($part(env)))),*],
        }
    };
}
pub(crate) use case;
