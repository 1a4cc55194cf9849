//! Builds of one program: what one of them knows and another does not.

use partitura::{Cancelled, Cx};
use serde::{Deserialize, Serialize};

use crate::support::Oops;

/// The old build: an order may have a note, and is shipped to an address in one line.
pub(crate) mod old {
    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub(crate) struct Order {
        pub(crate) article: String,
        pub(crate) note: Option<String>,
    }

    #[derive(Debug, Default)]
    pub(crate) struct Ships(Option<String>);

    #[partitura::workflow(name = "Ships")]
    impl Ships {
        #[run]
        async fn run(cx: Cx<Self>, order: Order) -> Result<String, Cancelled> {
            cx.until(|ships: &Ships| ships.0.is_some()).await?;
            let to = cx.state(|ships| ships.0.clone()).unwrap_or_default();
            Ok(format!("{} ({:?}) to {to}", order.article, order.note))
        }

        #[signal]
        fn ship(&mut self, to: String) {
            self.0 = Some(to);
        }
    }

    pub(crate) fn order() -> Order {
        Order { article: "chair".into(), note: Some("red".into()) }
    }
}

/// The new one: no note any more, a number of pieces that is one where it is missing, and an address may have two
/// parts.
pub(crate) mod new {
    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub(crate) struct Order {
        pub(crate) article: String,
        #[serde(default = "one")]
        pub(crate) pieces: u32,
    }

    fn one() -> u32 {
        1
    }

    #[derive(Debug, Clone, Serialize, Deserialize)]
    #[serde(untagged)]
    pub(crate) enum Address {
        Line(String),
        Full { street: String, town: String },
    }

    #[derive(Debug, Default)]
    pub(crate) struct Ships(Option<Address>);

    #[partitura::workflow(name = "Ships")]
    impl Ships {
        #[run]
        async fn run(cx: Cx<Self>, order: Order) -> Result<String, Cancelled> {
            cx.until(|ships: &Ships| ships.0.is_some()).await?;
            let to = match cx.state(|ships| ships.0.clone()) {
                Some(Address::Full { street, town }) => format!("{street} in {town}"),
                Some(Address::Line(line)) => line,
                None => String::new(),
            };
            Ok(format!("{} {} to {to}", order.pieces, order.article))
        }

        #[signal]
        fn ship(&mut self, to: Address) {
            self.0 = Some(to);
        }
    }

    pub(crate) fn full() -> Address {
        Address::Full { street: "12 St James's Square".into(), town: "London".into() }
    }
}

/// One that cannot do without the number of pieces.
pub(crate) mod strict {
    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub(crate) struct Order {
        pieces: u32,
    }

    #[derive(Debug, Default)]
    pub(crate) struct Ships;

    #[partitura::workflow(name = "Ships")]
    impl Ships {
        #[run]
        async fn run(_cx: Cx<Self>, order: Order) -> Result<String, Cancelled> {
            Ok(format!("{} pieces", order.pieces))
        }
    }
}

/// The same workflow before and after a change, guarded and not.
macro_rules! build {
    ($module:ident, $change:expr) => {
        pub(crate) mod $module {
            use super::*;

            #[derive(Debug, Default)]
            pub(crate) struct Changes(bool);

            #[partitura::workflow(name = "Changes")]
            impl Changes {
                #[run]
                async fn run(cx: Cx<Self>) -> Result<String, Oops> {
                    let change: fn(&Cx<Self>) -> bool = $change;
                    let kind = if change(&cx) { "new" } else { "old" };
                    let first = cx.step(kind, async move { Ok::<_, Oops>(kind.to_owned()) }).await?;
                    cx.until(|changes: &Changes| changes.0).await?;
                    Ok(first)
                }

                #[signal]
                fn end(&mut self) {
                    self.0 = true;
                }
            }
        }
    };
}

build!(unchanged, |_| false);
build!(unguarded, |_| true);
build!(guarded, |cx| cx.version("kind", 1..=2) == 2);
