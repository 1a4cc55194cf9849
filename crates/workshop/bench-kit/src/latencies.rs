use std::time::Duration;

/// The latencies of one run.
#[derive(Debug, Clone)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// In any order.
    pub fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self { sorted: latencies }
    }

    /// The smallest latency that at least the share `p` (0 to 1) stays below, in milliseconds; 0 where there is none.
    pub fn percentile_ms(&self, p: f64) -> f64 {
        let index = (p * self.sorted.len() as f64) as usize;
        let latency = self.sorted.get(index.min(self.sorted.len().saturating_sub(1)));
        latency.map_or(0.0, |latency| (latency.as_secs_f64() * 1e6).round() / 1e3)
    }

    /// The number of latencies.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(range: std::ops::RangeInclusive<u64>) -> Latencies {
        Latencies::new(range.rev().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let latencies = millis(1..=100);
        assert_eq!((latencies.percentile_ms(0.5), latencies.percentile_ms(0.99)), (51.0, 100.0));
        assert_eq!(millis(7..=7).percentile_ms(0.5), 7.0);
        assert_eq!(Latencies::new(Vec::new()).percentile_ms(0.99), 0.0);
    }
}
