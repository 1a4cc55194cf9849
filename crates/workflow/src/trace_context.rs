use serde::{Deserialize, Serialize};

/// The length of a `traceparent` of version 00.
const PARENT: usize = 55;
/// The longest `tracestate` that is carried.
const STATE: usize = 512;

/// The place in a trace at which something was asked for, as W3C Trace Context writes it. It is carried, and means
/// nothing to workflows.
///
/// Source: W3C Trace Context, level 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    /// `00-TRACE-SPAN-FLAGS`, in hexadecimal digits.
    #[serde(rename = "traceparent")]
    parent: String,
    /// The vendors' part of the context.
    #[serde(rename = "tracestate", default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

impl TraceContext {
    /// From the values of `traceparent` and `tracestate`. `None`: the first is not well formed. A `tracestate` of more
    /// than 512 bytes is left out.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let fields: Vec<&str> = parent.split('-').collect();
        let [version, trace, span, flags] = fields[..] else { return None };
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let is_set = |text: &str| text.bytes().any(|byte| byte != b'0');
        let sizes = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        let well_formed = parent.len() == PARENT && sizes && fields.iter().all(|field| is_hex(field));
        let state = state.filter(|state| !state.is_empty() && state.len() <= STATE).map(str::to_owned);
        (well_formed && version != "ff" && is_set(trace) && is_set(span))
            .then(|| Self { parent: parent.to_owned(), state })
    }

    /// The value of `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The value of `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        self.parent.get(3..35).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_and_kept_as_it_was() {
        let context = TraceContext::parse(PARENT, Some("vendor=1")).unwrap();
        assert_eq!((context.parent(), context.state()), (PARENT, Some("vendor=1")));
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let json = serde_json::to_string(&context).unwrap();
        assert_eq!(json, format!(r#"{{"traceparent":"{PARENT}","tracestate":"vendor=1"}}"#));
    }

    #[test]
    fn what_is_no_context_is_refused() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let version = PARENT.replace("00-0a", "ff-0a");
        let upper = PARENT.replace("af", "AF");
        for text in ["", "00", "00-1-2-01", zeros, &version, &upper, &PARENT[1..]] {
            assert_eq!(TraceContext::parse(text, None), None, "{text}");
        }
        assert_eq!(TraceContext::parse(PARENT, Some(&"x".repeat(513))).unwrap().state(), None);
    }
}
