//! The timeline of an instance: one row for each thing that it did, with a bar on a common scale of time.

use maud::{Markup, html};
use partitura_admin::{Row, RowKind, RowState, text};
use partitura_broker::Timestamp;

use crate::context::Visit;
use crate::view::{full, payload, word};

/// How many rows are drawn at most; the newest are.
const MOST: usize = 250;
/// The width of the scale.
const WIDTH: f64 = 1_000.0;
/// The narrowest bar that can be seen.
const NARROWEST: f64 = 4.0;

/// Which rows are shown, and how time is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    pub(crate) only_failed: bool,
    /// As it passed, instead of with short waits.
    pub(crate) to_scale: bool,
}

/// The table. `path` is the address of the instance; `is_whole` says whether the rows are all there are.
pub(crate) fn table(visit: &Visit, path: &str, rows: &[Row], now: u64, look: Look, is_whole: bool) -> Markup {
    let chosen: Vec<&Row> = rows.iter().filter(|row| !look.only_failed || is_failed(row)).collect();
    let shown = &chosen[chosen.len().saturating_sub(MOST)..];
    let scale = Scale::from_rows(shown, now, look.to_scale);
    let failed = rows.iter().filter(|row| is_failed(row)).count();
    html! {
        h2 {
            "Timeline"
            span.note {
                @if look.only_failed { a href=(path) { "all" } " · " b { "failed (" (failed) ")" } }
                @else { b { "all" } " · " a href={ (path) "?rows=failed" } { "failed (" (failed) ")" } }
                " · "
                @if look.to_scale { a href=(path) { "short waits" } " · " b { "true to scale" } }
                @else { b { "short waits" } " · " a href={ (path) "?scale=true" } { "true to scale" } }
            }
        }
        @if shown.len() < rows.len() && !look.only_failed || !is_whole {
            p.note { "The last " (shown.len()) " of what this instance did. The history below has all of it." }
        }
        @if shown.is_empty() {
            p.empty { @if look.only_failed { "Nothing of it has failed." } @else { "It has not asked for anything yet." } }
        } @else {
            div.scroll { table.timeline.fold {
                thead { tr {
                    th scope="col" { "" } th scope="col" { "What" }
                    th.bar scope="col" {
                        (clock(scale.from)) span { (clock(scale.to)) }
                    }
                    th.num scope="col" { "Took" } th scope="col" { "State" } th scope="col" { "Result" }
                } }
                tbody { @for row in shown { (line(visit, row, &scale, now)) } }
            } }
        }
    }
}

fn is_failed(row: &Row) -> bool {
    row.state == RowState::Failed
}

fn clock(at: u64) -> String {
    let text = Timestamp::from_millis(at).to_string();
    // The time of day; the day stands in the history.
    text.get(11..19).unwrap_or(&text).to_owned()
}

fn line(visit: &Visit, row: &Row, scale: &Scale, now: u64) -> Markup {
    let took = row.to.unwrap_or(now).saturating_sub(row.from);
    let is_moment =
        matches!(row.kind, RowKind::Signal | RowKind::Sent | RowKind::Version | RowKind::Cancel | RowKind::Repair);
    html! {
        tr {
            td.kind { (row.kind.name()) }
            td.name {
                @match &row.instance {
                    Some((workflow, id)) => a href=(visit.instance(workflow, id)) { (text::line(&row.name, 120)) },
                    None => (text::line(&row.name, 120)),
                }
                @if let Some(attempts) = row.attempts.filter(|attempts| *attempts > 1) {
                    span.note { " · attempt " (attempts) }
                }
            }
            td.bar { (bar(row, scale, now)) }
            td.num { @if !is_moment { (text::span(took)) } }
            td { @if !is_moment { (word(row.state.name())) } }
            td.result { (result(row, now)) }
        }
    }
}

fn bar(row: &Row, scale: &Scale, now: u64) -> Markup {
    let (from, to) = (scale.at(row.from), scale.at(row.to.unwrap_or(now)));
    let width = (to - from).max(NARROWEST);
    let x = from.min(WIDTH - width);
    let class = format!("{} {}", row.kind.name(), row.state.name());
    html! {
        svg viewBox={ "0 0 " (WIDTH) " 14" } preserveAspectRatio="none" aria-hidden="true" {
            line.track x1="0" y1="7" x2=(WIDTH) y2="7" {}
            rect class=(class) x=(format!("{x:.1}")) y="2.5" width=(format!("{width:.1}")) height="9" {}
        }
    }
}

fn result(row: &Row, now: u64) -> Markup {
    let due = row.due.filter(|_| row.state == RowState::Open);
    html! {
        @if let Some(error) = &row.error { span.error { (text::cause(error, 300)) } }
        @if let Some(due) = due { span.note { "due " (text::relative(due, now)) " · " (full(due)) } }
        @if row.input.is_some() || row.output.is_some() {
            details {
                summary {
                    @match (&row.output, &row.input) {
                        (Some(output), _) => (text::line(text::payload(output), 60)),
                        (None, Some(input)) => { "← " (text::line(text::payload(input), 60)) }
                        (None, None) => "",
                    }
                }
                @if let Some(input) = &row.input { p.note { "in" } (payload(input)) }
                @if let Some(output) = &row.output { p.note { "out" } (payload(output)) }
            }
        }
    }
}

/// Where a moment is drawn, from 0 to [`WIDTH`].
struct Scale {
    from: u64,
    to: u64,
    /// Moments and their places, in order.
    places: Vec<(u64, f64)>,
}

impl Scale {
    /// The scale of these rows. Unless it is to be true, time between two events takes a place by its logarithm: a wait
    /// of days beside calls of milliseconds leaves both to be seen.
    fn from_rows(rows: &[&Row], now: u64, is_true: bool) -> Self {
        let mut moments: Vec<u64> = rows.iter().flat_map(|row| [row.from, row.to.unwrap_or(now)]).collect();
        moments.sort_unstable();
        moments.dedup();
        let (from, to) = (moments.first().copied().unwrap_or(now), moments.last().copied().unwrap_or(now));
        let weight = |gap: u64| if is_true { gap as f64 } else { (1.0 + gap as f64 / 20.0).ln() };
        let gaps = moments.windows(2).map(|pair| weight(pair[1] - pair[0]));
        let all: f64 = gaps.clone().sum();
        let mut place = 0.0;
        let places = std::iter::once(0.0).chain(gaps.map(|gap| {
            place += gap / all * WIDTH;
            place
        }));
        let places = moments.iter().copied().zip(places.collect::<Vec<_>>()).collect();
        Self { from, to, places }
    }

    fn at(&self, moment: u64) -> f64 {
        match self.places.binary_search_by_key(&moment, |(at, _)| *at) {
            Ok(found) => self.places[found].1,
            Err(next) => self.places.get(next).map_or(WIDTH, |(_, place)| *place),
        }
    }
}

#[cfg(test)]
mod tests {
    use partitura_workflow::{Event, EventKind};

    use super::*;

    fn drawn(to_scale: bool) -> Vec<f64> {
        let timer = |seq, at, due_at_ms| Event::new(at, EventKind::TimerStarted { seq, due_at_ms, after_ms: None });
        let fired = |seq, at| Event::new(at, EventKind::TimerFired { seq });
        let rows =
            partitura_admin::rows(0, &[timer(1, 0, 100), fired(1, 100), timer(2, 100, 100_000), fired(2, 100_000)]);
        let rows: Vec<&Row> = rows.iter().collect();
        let scale = Scale::from_rows(&rows, 200_000, to_scale);
        [0, 100, 100_000].map(|at| scale.at(at)).to_vec()
    }

    #[test]
    fn a_short_call_beside_a_long_wait_can_be_seen() {
        let [start, middle, end] = drawn(false)[..] else { panic!("three moments") };
        assert_eq!((start, end), (0.0, WIDTH));
        assert!(middle > 100.0, "{middle}");
    }

    #[test]
    fn true_to_scale_is_proportional() {
        assert_eq!(drawn(true), [0.0, 1.0, WIDTH]);
    }
}
