//! A recorder of metrics that remembers them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// The name of a metric, and its labels as `name="value"` in their order.
type Named = (String, String);

/// All that was recorded.
#[derive(Debug, Default, Clone)]
pub(crate) struct Recorded(Arc<Mutex<BTreeMap<Named, Vec<f64>>>>);

impl Recorded {
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.lock().expect("no panic holds it").keys().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        self.0.lock().expect("no panic holds it").keys().map(|(_, labels)| labels.clone()).collect()
    }

    /// The values of a metric whose labels have all of these.
    pub(crate) fn values(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let all = self.0.lock().expect("no panic holds it");
        let is_meant = |(of, with): &Named| of == name && labels.iter().all(|label| with.contains(label));
        all.iter().filter(|(key, _)| is_meant(key)).flat_map(|(_, values)| values.clone()).collect()
    }

    /// The sum of a counter.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.values(name, labels).iter().sum()
    }

    fn series(&self, key: &Key) -> Arc<Series> {
        let labels = key.labels().map(|label| format!("{}={:?}", label.key(), label.value()));
        let key = (key.name().to_owned(), labels.collect::<Vec<_>>().join(","));
        Arc::new(Series { all: self.clone(), key })
    }
}

struct Series {
    all: Recorded,
    key: Named,
}

impl Series {
    fn push(&self, value: f64) {
        self.all.0.lock().expect("no panic holds it").entry(self.key.clone()).or_default().push(value);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.push(value as f64);
    }

    fn absolute(&self, value: u64) {
        self.push(value as f64);
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.push(value);
    }

    fn decrement(&self, value: f64) {
        self.push(-value);
    }

    fn set(&self, value: f64) {
        self.push(value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.push(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}
