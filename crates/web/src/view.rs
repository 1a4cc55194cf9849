//! Parts that several pages show.

use maud::{Markup, html};
use partitura_admin::text;
use partitura_broker::Timestamp;
use partitura_engine::{StatusKind, Summary};
use partitura_workflow::Payload;

use crate::context::Visit;

/// How much of a payload is shown; the rest is in the download.
pub(crate) const PAYLOAD: usize = 16 * 1_024;

/// A status as a dot and a word.
pub(crate) fn status(kind: StatusKind) -> Markup {
    word(kind.name())
}

/// Where something stands, as a dot and a word.
pub(crate) fn word(name: &str) -> Markup {
    html! { span class={ "status " (name) } { (name) } }
}

/// A moment as its distance, and in full for those who point at it.
pub(crate) fn moment(at: u64, now: u64) -> Markup {
    let full = Timestamp::from_millis(at).to_string();
    html! { time datetime=(full) title=(full) { (text::relative(at, now)) } }
}

/// A moment in full.
pub(crate) fn full(at: u64) -> Markup {
    let full = Timestamp::from_millis(at).to_string();
    html! { time datetime=(full) { (full.replace('T', " ").trim_end_matches('Z')) } }
}

/// How long an instance lasted, or lasts.
pub(crate) fn lasted(summary: &Summary, now: u64) -> String {
    text::span(summary.closed_at.unwrap_or(now).saturating_sub(summary.started_at))
}

/// A number with separators, and a sign if it was not counted to its end: `10,000+`.
pub(crate) fn number((number, is_capped): (usize, bool)) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if is_capped {
        text.push('+');
    }
    text
}

/// A value as text. It is never markup, whatever is in it.
pub(crate) fn payload(value: &Payload) -> Markup {
    let (text, is_cut) = text::pretty(value.as_json(), PAYLOAD);
    html! {
        @if let Some(why) = value.unreadable() { p.note { "Not readable here: " (why) } }
        pre.value tabindex="0" { (text) }
        @if is_cut { p.note { "The first part of " (value.as_json().len()) " bytes; all of it is in the history's download." } }
    }
}

/// A link to an instance by its id.
pub(crate) fn id_link(visit: &Visit, workflow: &str, id: &str) -> Markup {
    html! { a.mono href=(visit.instance(workflow, id)) { (id) } }
}

/// The table of instances.
pub(crate) fn table(visit: &Visit, instances: &[Summary], now: u64) -> Markup {
    html! {
        div.scroll {
            table.fold {
                thead { tr {
                    th scope="col" { "Status" } th scope="col" { "Id" } th scope="col" { "Workflow" }
                    th scope="col" { "Started" } th.num scope="col" { "Lasted" } th scope="col" { "Tags" }
                } }
                tbody {
                    @for summary in instances {
                        tr {
                            td.kind { (status(summary.status.kind())) }
                            td.id {
                                (id_link(visit, &summary.workflow, &summary.id))
                                @if let Some(reason) = summary.status.reason() { div.note { (text::cause(reason, 160)) } }
                            }
                            td { (summary.workflow) }
                            td.nowrap data-label="Started" { (moment(summary.started_at, now)) }
                            td.num data-label="Lasted" { (lasted(summary, now)) }
                            td.off[summary.tags.is_empty()] { @for tag in summary.tags.iter().take(6) { span.tag { (tag) } } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Payload, number, payload};

    #[test]
    fn a_payload_of_a_codec_that_is_not_here_says_so() {
        let codecs = std::sync::Arc::new(partitura_codec::Codecs::default());
        let read =
            || serde_json::from_str::<Payload>(r#"{"partitura.codec":"aes/1","data":"AAAA"}"#).expect("a payload");
        let shown = payload(&codecs.within(read).0).into_string();
        assert!(shown.contains("Not readable here") && shown.contains("aes/1"), "{shown}");
        let shown = payload(&Payload::encode_unproven("clear").expect("text")).into_string();
        assert!(!shown.contains("Not readable"), "{shown}");
    }

    #[test]
    fn numbers_are_grouped_and_say_where_counting_ended() {
        assert_eq!(number((0, false)), "0");
        assert_eq!(number((999, false)), "999");
        assert_eq!(number((1_234_567, false)), "1,234,567");
        assert_eq!(number((10_000, true)), "10,000+");
    }
}
