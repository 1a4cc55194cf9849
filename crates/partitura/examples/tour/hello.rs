//! A workflow that calls a service.

use partitura::{Cx, Never, Partitura, TaskError};

use crate::said::Said;

#[partitura::service] // a plain trait; the macro makes the stub that workflows call
trait Greetings {
    async fn compose(&self, name: String) -> String;
}

struct Polite;

impl Greetings for Polite {
    async fn compose(&self, name: String) -> String {
        format!("Good morning, {name}")
    }
}

#[derive(Default)]
struct Greet;

#[partitura::workflow]
impl Greet {
    #[run]
    async fn run(cx: Cx<Self>, name: String) -> Result<String, TaskError<Never>> {
        cx.service::<GreetingsStub>().compose(name).await
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let worker = partitura.worker().service(GreetingsService(Polite)).workflow::<Greet>().start().await?;
    let greet = partitura.client().workflow::<Greet>("greet-ada");
    greet.start("Ada".to_owned()).await?; // starting twice is starting once
    let greeting = greet.result().await?;
    worker.stop().await?;
    Ok(greeting)
}
