//! The address of an answer.

use partitura_broker::InboxAddress;
use serde::{Deserialize, Serialize};

/// An inbox, and the request there that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct ReplyTo {
    pub(crate) inbox: InboxAddress,
    pub(crate) request: u64,
}

impl From<ReplyTo> for String {
    fn from(reply_to: ReplyTo) -> Self {
        format!("{}#{}", reply_to.inbox.as_str(), reply_to.request)
    }
}

impl TryFrom<String> for ReplyTo {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.rsplit_once('#').and_then(|(inbox, request)| Some((inbox, request.parse().ok()?)));
        let (inbox, request) = parsed.ok_or_else(|| format!("{text:?} is no reply address"))?;
        Ok(Self { inbox: InboxAddress::new(inbox), request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_address_survives_the_wire() {
        let address = ReplyTo { inbox: InboxAddress::new("in#box"), request: 7 };
        assert_eq!(ReplyTo::try_from(String::from(address.clone())), Ok(address));
        assert!(ReplyTo::try_from("nonsense".to_owned()).is_err());
    }
}
