//! A result that one build of a program cannot read is left to another.

use std::time::Duration;

use partitura::{Cx, TaskError, WorkflowError, minutes};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::support::soon;
use crate::troubled::{Troubled, Virtual, embedded};

/// The new build knows prices in other currencies, and another reason to refuse.
mod new {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) enum Price {
        Euro(u64),
        Dollar(u64),
    }

    #[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
    pub(super) enum Refused {
        #[error("unknown")]
        Unknown,
        #[error("sold out")]
        SoldOut,
    }

    #[partitura::service(name = "Prices")]
    pub(super) trait Prices {
        async fn price(&self, article: String) -> Result<Price, Refused>;
    }

    pub(super) struct Shop;

    impl Prices for Shop {
        async fn price(&self, article: String) -> Result<Price, Refused> {
            match article.as_str() {
                "chair" => Ok(Price::Dollar(7)),
                "table" => Err(Refused::SoldOut),
                "lamp" => Ok(Price::Euro(9)),
                _ => Err(Refused::Unknown),
            }
        }
    }

    #[derive(Debug, Default)]
    pub(super) struct Asks;

    #[partitura::workflow(name = "Asks")]
    impl Asks {
        #[run]
        async fn run(cx: Cx<Self>, article: String) -> Result<String, TaskError<Refused>> {
            let price = cx.service::<PricesStub>().price(article).await;
            Ok(match price {
                Ok(price) => format!("{price:?}"),
                Err(TaskError::Failed(refused)) => refused.to_string(),
                Err(error) => format!("new: {error}"),
            })
        }
    }
}

mod old {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(super) enum Price {
        Euro(u64),
    }

    #[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
    pub(super) enum Refused {
        #[error("unknown")]
        Unknown,
    }

    #[partitura::service(name = "Prices")]
    pub(super) trait Prices {
        async fn price(&self, article: String) -> Result<Price, Refused>;
    }

    #[derive(Debug, Default)]
    pub(super) struct Asks;

    #[partitura::workflow(name = "Asks")]
    impl Asks {
        #[run]
        async fn run(cx: Cx<Self>, article: String) -> Result<String, TaskError<Refused>> {
            let price = cx.service::<PricesStub>().price(article).await;
            Ok(price.map_or_else(|error| format!("old: {error}"), |price| format!("{price:?}")))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_a_build_cannot_read_waits_for_one_that_can() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let service = partitura.worker().service(new::PricesService(new::Shop)).start().await.expect("a worker");
    let before = partitura.worker().workflow::<old::Asks>().build_id("1").start().await.expect("a worker");
    let client = partitura.client();
    let asks = async |article: &str| {
        let asks = client.workflow::<new::Asks>(article);
        asks.start(article.to_owned()).await.expect("started");
        asks
    };
    let (chair, table, lamp) = (asks("chair").await, asks("table").await, asks("lamp").await);
    // The build reads all that it can.
    assert_eq!(soon(lamp.result()).await.expect("a result"), "Euro(9)");
    sleep(minutes(2)).await;
    let after = partitura.worker().workflow::<new::Asks>().build_id("2").start().await.expect("a worker");
    before.stop().await.expect("stopped");
    assert_eq!(soon(chair.result()).await.expect("a result"), "Dollar(7)");
    assert_eq!(soon(table.result()).await.expect("a result"), "sold out");
    after.stop().await.expect("stopped");
    service.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_no_build_reads_in_time_reaches_the_code_as_an_error() {
    let clock = Virtual::new();
    let partitura = Troubled::new(&embedded(&clock)).engine(&clock).await;
    let worker = partitura.worker().service(new::PricesService(new::Shop)).workflow::<old::Asks>();
    let worker = worker.try_elsewhere(Duration::from_secs(60)).start().await.expect("a worker");
    let chair = partitura.client().workflow::<old::Asks>("chair");
    let began = Instant::now();
    chair.start("chair".to_owned()).await.expect("started");
    let result: Result<String, WorkflowError<_>> =
        tokio::time::timeout(minutes(3), chair.result()).await.expect("soon");
    assert!(result.expect("a result").starts_with("old: "));
    assert!(began.elapsed() >= minutes(1), "{:?}", began.elapsed());
    worker.stop().await.expect("stopped");
}
