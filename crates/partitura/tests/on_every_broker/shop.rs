//! Two builds of a service, and of a workflow that calls it.

use std::sync::{Arc, Mutex, PoisonError};

use partitura::{Cx, TaskContext};

use crate::support::Oops;

/// The calls of a service, of whichever build: the id of the task and what was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<(String, String)>>>);

impl Calls {
    fn note(&self, what: String) -> Result<String, Oops> {
        let task = TaskContext::current().expect("inside of a task").idempotency_key();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((task, what.clone()));
        Ok(what)
    }

    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) mod old {
    use super::*;

    #[partitura::service(name = "Shop")]
    pub(crate) trait Shop {
        async fn pay(&self, cents: u64, note: Option<String>) -> Result<String, Oops>;
        async fn send(&self, article: String) -> Result<String, Oops>;
    }

    impl Shop for Calls {
        async fn pay(&self, cents: u64, note: Option<String>) -> Result<String, Oops> {
            self.note(format!("old pay {cents} {note:?}"))
        }

        async fn send(&self, article: String) -> Result<String, Oops> {
            self.note(format!("old send {article}"))
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Buys;

    #[partitura::workflow(name = "OldBuys")]
    impl Buys {
        #[run]
        async fn run(cx: Cx<Self>) -> Result<Vec<String>, Oops> {
            let shop = cx.service::<ShopStub>();
            Ok(vec![shop.pay(7, Some("red".into())).await?, shop.send("chair".into()).await?])
        }
    }
}

/// Without the note; with another method, and with an argument that cannot be left out.
pub(crate) mod new {
    use super::*;

    #[partitura::service(name = "Shop")]
    pub(crate) trait Shop {
        async fn pay(&self, cents: u64) -> Result<String, Oops>;
        async fn refund(&self, cents: u64) -> Result<String, Oops>;
        async fn send(&self, article: String, express: bool) -> Result<String, Oops>;
    }

    impl Shop for Calls {
        async fn pay(&self, cents: u64) -> Result<String, Oops> {
            self.note(format!("new pay {cents}"))
        }

        async fn refund(&self, cents: u64) -> Result<String, Oops> {
            self.note(format!("new refund {cents}"))
        }

        async fn send(&self, article: String, express: bool) -> Result<String, Oops> {
            self.note(format!("new send {article} {express}"))
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Buys;

    #[partitura::workflow(name = "NewBuys")]
    impl Buys {
        #[run]
        async fn run(cx: Cx<Self>) -> Result<Vec<String>, Oops> {
            let shop = cx.service::<ShopStub>();
            let paid = shop.pay(7).await?;
            let refunded = shop.refund(2).await?;
            Ok(vec![paid, refunded, shop.send("chair".into(), true).await?])
        }
    }
}
