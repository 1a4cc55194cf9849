use std::sync::Arc;

use partitura_broker::Broker;
use partitura_lanes::LaneOptions;

/// Puts something before a broker.
pub(crate) type Wrap = fn(Arc<dyn Broker>) -> Arc<dyn Broker>;

/// The subject of a case: the broker as it is, or with something between it and the case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    /// Tells apart the subjects on which cases are expected to pass.
    pub(crate) name: &'static str,
    /// The name of the mutant that it is, by which another process finds it.
    pub(crate) mutant: Option<&'static str>,
    /// The load takes no minutes, since the suite tests itself.
    pub(crate) is_little: bool,
    /// Changes the broker for the case.
    pub(crate) broker: Option<Wrap>,
    /// Changes the broker for the lanes of the case. The history shows their requests before the change.
    pub(crate) view: Option<Wrap>,
    /// Changes the options of the lanes.
    pub(crate) options: Option<fn(LaneOptions) -> LaneOptions>,
}

impl Subject {
    /// The broker as it is.
    pub(crate) const BROKER: Self =
        Self { name: "", mutant: None, is_little: false, broker: None, view: None, options: None };

    /// The same with little load. Mutants of a case with load are compared with it.
    pub(crate) const LITTLE: Self = Self { name: "little", is_little: true, ..Self::BROKER };

    /// The broker as the case sees it.
    pub(crate) fn broker(self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        self.broker.map_or(broker.clone(), |wrap| wrap(broker))
    }

    /// The broker as the lanes of the case see it.
    pub(crate) fn broker_of_lanes(self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        self.view.map_or(broker.clone(), |wrap| wrap(broker))
    }

    /// The options of the lanes of the case.
    pub(crate) fn lane_options(self, options: LaneOptions) -> LaneOptions {
        self.options.map_or(options.clone(), |change| change(options))
    }
}
