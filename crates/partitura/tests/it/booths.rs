//! A workflow whose handlers wait.

use partitura::{Cancelled, Cx};

use crate::support::{Oops, TextStub};

/// Takes texts until it is closed. Told to be patient, it lets its handlers end first.
#[derive(Debug, Default)]
pub(crate) struct Booth {
    texts: Vec<String>,
    rested: bool,
    closed: Option<String>,
}

#[partitura::workflow]
impl Booth {
    #[run]
    async fn run(cx: Cx<Self>, patient: bool) -> Result<Vec<String>, Cancelled> {
        cx.until(|booth: &Booth| booth.closed.is_some()).await?;
        if patient {
            cx.handlers_ended().await?;
        }
        if cx.state(|booth| booth.closed.as_deref() == Some("for today")) {
            return cx.continue_as_new(patient).await;
        }
        Ok(cx.state(|booth| booth.texts.clone()))
    }

    /// Has a dot put behind a text, and says how many there are then.
    #[update]
    async fn take(cx: Cx<Self>, text: String) -> Result<usize, Oops> {
        let text = cx.service::<TextStub>().dot(text).await?;
        Ok(cx.state(|booth| {
            booth.texts.push(text);
            booth.texts.len()
        }))
    }

    /// Answers once it has rested.
    #[update]
    async fn think(cx: Cx<Self>, about: String) -> Result<String, Cancelled> {
        cx.until(|booth: &Booth| booth.rested).await?;
        Ok(format!("thought about {about}"))
    }

    #[signal]
    async fn remember(cx: Cx<Self>, text: String) {
        if let Ok(text) = cx.service::<TextStub>().dot(text).await {
            cx.state(|booth| booth.texts.push(text));
        }
    }

    #[signal]
    fn rest(&mut self) {
        self.rested = true;
    }

    #[signal]
    fn close(&mut self, why: String) {
        self.closed = Some(why);
    }
}

pub(crate) fn take(text: &str) -> partitura::Update<Booth, usize, Oops> {
    BoothUpdate::take(text.to_owned())
}
