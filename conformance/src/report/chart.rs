use crate::check::Lateness;

/// The largest number of bars of a chart.
const BARS: usize = 24;
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 120.0;

/// A histogram as SVG, with its quantiles.
pub(super) fn lateness_chart(lateness: &Lateness) -> String {
    let (sorted, [p50, p99, max]) = (lateness.values(), [0.5, 0.99, 1.0].map(|part| lateness.quantile(part)));
    let wide = (max + 1).div_ceil(BARS as u64).max(1);
    let mut bars = vec![0_usize; (max / wide) as usize + 1];
    sorted.iter().for_each(|value| bars[(value / wide) as usize] += 1);
    let (most, step) = (bars.iter().copied().max().unwrap_or(1), WIDTH / bars.len() as f64);
    let mut svg = format!("<svg width=\"{WIDTH}\" height=\"{}\" role=\"img\">", HEIGHT + 34.0);
    for (at, count) in bars.iter().enumerate() {
        // By square root, so that the few late ones can be seen beside the many.
        let height = HEIGHT * (*count as f64 / most as f64).sqrt();
        let (from, to) = (at as u64 * wide, (at as u64 + 1) * wide);
        svg += &format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"#3b6fb6\"><title>{from}–{to} ms: {count}</title></rect>",
            at as f64 * step + 1.0,
            HEIGHT - height,
            (step - 2.0).max(1.0),
        );
    }
    let end = bars.len() as u64 * wide;
    svg += &format!(
        "<text x=\"0\" y=\"{0}\">0 ms</text><text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">{end} ms</text>",
        HEIGHT + 14.0
    );
    let count = sorted.len();
    svg += &format!(
        "<text x=\"0\" y=\"{}\">{count} messages · p50 {p50} ms · p99 {p99} ms · max {max} ms</text></svg>",
        HEIGHT + 30.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bar_and_the_quantiles_are_written_below() {
        let svg = lateness_chart(&Lateness::new(vec![2, 0, 1, 2, 0, 95]));
        assert!(svg.contains("0–4 ms: 5") && svg.contains("92–96 ms: 1"), "{svg}");
        assert!(svg.contains("6 messages · p50 2 ms · p99 95 ms · max 95 ms"), "{svg}");
        assert!(lateness_chart(&Lateness::new(vec![0])).contains("1 messages"));
    }
}
