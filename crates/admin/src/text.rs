//! Times and values as people read them.

use partitura_engine::{Pausable, Waiting};
use partitura_workflow::Payload;

/// How long `millis` are, in the two largest units: `3 d 4 h`, `12 s`, `240 ms`.
pub fn span(millis: u64) -> String {
    const UNITS: [(&str, u64); 6] =
        [("y", 31_536_000_000), ("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
    let Some(at) = UNITS.iter().position(|(_, size)| millis >= *size) else { return "0 ms".to_owned() };
    let (unit, size) = UNITS[at];
    let first = format!("{} {unit}", millis / size);
    // Milliseconds beside seconds are noise after the first ten.
    let rest = UNITS.get(at + 1).filter(|_| unit != "s" || millis < 10_000);
    match rest {
        Some(("ms", _)) => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        Some((unit, size)) if millis % UNITS[at].1 / size > 0 => {
            format!("{first} {} {unit}", millis % UNITS[at].1 / size)
        }
        _ => first,
    }
}

/// How far a moment is from `now`: `3 min ago`, `in 2 d`.
pub fn relative(at: u64, now: u64) -> String {
    match (at, now) {
        _ if at.abs_diff(now) < 1_000 => "now".to_owned(),
        (at, now) if at > now => format!("in {}", coarse(at - now, &['y', 'd', 'h'])),
        (at, now) => format!("{} ago", coarse(now - at, &['y', 'd'])),
    }
}

/// One unit is enough, where it is none of the rough ones.
fn coarse(millis: u64, rough: &[char]) -> String {
    if millis < 60_000 {
        return format!("{} s", millis / 1_000);
    }
    let text = span(millis);
    match text.match_indices(' ').nth(1) {
        Some((end, _)) if !text.contains(rough) => text[..end].to_owned(),
        _ => text,
    }
}

/// The cause of a stop in one line, without the instance's name and without what to do, up to `limit` bytes.
pub fn cause(reason: &str, limit: usize) -> String {
    let first = reason.lines().next().unwrap_or(reason);
    // As the engine says it: `workflow Checkout/order-42 stopped: its code panicked: …`.
    let cause = first
        .strip_prefix("workflow ")
        .and_then(|rest| rest.split_once(" stopped: "))
        .map_or(first, |(_, cause)| cause);
    line(cause, limit)
}

/// JSON with line breaks, as far as it is JSON; cut behind `limit` bytes, and whether that was necessary.
pub fn pretty(json: &str, limit: usize) -> (String, bool) {
    // Reading and writing a value that is cut anyway would cost memory for nothing.
    if json.len() > limit {
        return (head(json, limit).to_owned(), true);
    }
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok();
    let text = if is_json { indented(json) } else { json.to_owned() };
    match head(&text, limit.saturating_mul(4)) {
        head if head.len() < text.len() => (head.to_owned(), true),
        _ => (text, false),
    }
}

/// Valid JSON with a line for each member. Only white space is changed: a number of 40 digits keeps them.
fn indented(json: &str) -> String {
    let (mut text, mut depth, mut in_string) = (String::with_capacity(json.len() * 2), 0_usize, false);
    let mut characters = json.chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => text.extend([Some(character), characters.next()].into_iter().flatten()),
            '"' => {
                in_string = !in_string;
                text.push(character);
            }
            _ if in_string => text.push(character),
            '{' | '[' => {
                text.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(character);
            }
            ',' => {
                text.push(character);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => text.push(other),
        }
    }
    text
}

/// The text of a payload, or why it cannot be read here.
pub fn payload(value: &Payload) -> &str {
    value.unreadable().unwrap_or_else(|| value.as_json())
}

/// A text in one line, of up to `limit` bytes.
pub fn line(text: &str, limit: usize) -> String {
    let flat: String = head(text, limit).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > limit { format!("{flat}…") } else { flat }
}

fn head(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// Says in words that something was paused, and whether its name is known. A worker may be yet to start, so that an
/// unknown one is no error.
pub fn paused(what: &Pausable, is_known: bool) -> String {
    let unknown = match what {
        _ if is_known => return "it is paused".to_owned(),
        Pausable::Workflow(name) => format!("no worker has served a workflow {name} yet: is that its name?"),
        Pausable::Service(service) | Pausable::Method { service, .. } => {
            format!("no worker has served a service {service} yet: is that its name?")
        }
        _ => "nothing of that name is known".to_owned(),
    };
    format!("it is paused; {unknown}")
}

/// Says in words for which thing an instance waits: `timer due in 3 d`, `task Payments.charge, attempt 4`.
pub fn waiting(waiting: &Waiting, now: u64) -> String {
    match waiting {
        Waiting::Task { service, method, scheduled_at, attempt, unclaimed, delegated, held_up, .. } => {
            let mut text = format!("task {service}.{method}, called {}", relative(*scheduled_at, now));
            if let Some(attempt) = attempt {
                text.push_str(&format!(", attempt {attempt}"));
            }
            if let Some(since) = held_up {
                let runs_for = span(now.saturating_sub(*since));
                text.push_str(&format!(
                    "; its method has not come back for {runs_for}: it loops, or blocks its thread"
                ));
            } else if *delegated {
                text.push_str(", to be completed from outside");
            } else if *unclaimed {
                text.push_str(
                    "; no worker is known to run it: is one of the service up, or does it wait for its next attempt?",
                );
            }
            text
        }
        Waiting::Timer { due_at, .. } => format!("timer, due {}", relative(*due_at, now)),
        Waiting::Child { workflow, id, started_at, .. } => {
            format!("child {workflow}/{id}, started {}", relative(*started_at, now))
        }
        Waiting::Step { name, scheduled_at, .. } => format!("step {name}, since {}", relative(*scheduled_at, now)),
        Waiting::Channel { name } => format!("signal on channel {name}"),
        Waiting::Condition => "a condition on its own state, which signals change".to_owned(),
        // Newer workers may name more.
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        let spans = [0, 240, 1_250, 12_345, 60_000, 61_000, 90_000_000, 86_400_000 * 400];
        let texts = ["0 ms", "240 ms", "1.2 s", "12 s", "1 min", "1 min 1 s", "1 d 1 h", "1 y 35 d"];
        assert_eq!(spans.map(span), texts);
    }

    #[test]
    fn a_moment_is_told_by_its_distance() {
        assert_eq!(relative(1_000_000, 1_000_400), "now");
        assert_eq!(relative(1_000_000, 1_003_900), "3 s ago");
        assert_eq!(relative(1_000_000, 1_000_000 + 3_780_000), "1 h ago");
        assert_eq!(relative(1_000_000 + 266_400_000, 1_000_000), "in 3 d 2 h");
        assert_eq!(relative(1_000_000 + 7_140_000, 1_000_000), "in 1 h 59 min");
    }

    #[test]
    fn a_cause_is_told_without_the_name_that_stands_beside_it() {
        let reason = "workflow Checkout/order-5 stopped: its code panicked: no room\nrepair the code";
        assert_eq!(cause(reason, 100), "its code panicked: no room");
        assert_eq!(cause("something else", 100), "something else");
    }

    #[test]
    fn a_large_value_is_cut_between_characters() {
        assert_eq!(pretty(r#"{"a":1}"#, 100), ("{\n  \"a\": 1\n}".to_owned(), false));
        let exact = r#"{"z":340282366920938463463374607431768211455,"a":["x, \"{",[ ],{ "b" : 1.50}],"e":{}}"#;
        let shown = pretty(exact, 1_000).0;
        let expected = "{\n  \"z\": 340282366920938463463374607431768211455,\n  \"a\": [\n    \"x, \\\"{\",\n    [],\n    {\n      \
                        \"b\": 1.50\n    }\n  ],\n  \"e\": {}\n}";
        assert_eq!(shown, expected);
        assert_eq!(pretty("\"äää\"", 2), ("\"".to_owned(), true));
        assert_eq!(line("a\nb", 10), "a b");
    }
}
