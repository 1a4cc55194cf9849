//! A workflow that calls many tasks at the same time.

use partitura::{Cx, Never, Partitura, TaskError, try_join_all};

use crate::said::Said;

#[partitura::service]
trait Numbers {
    async fn square(&self, number: u64) -> u64;
}

struct Calculator;

impl Numbers for Calculator {
    async fn square(&self, number: u64) -> u64 {
        number * number
    }
}

#[derive(Default)]
struct Sum;

#[partitura::workflow]
impl Sum {
    #[run]
    async fn run(cx: Cx<Self>, most: u64) -> Result<u64, TaskError<Never>> {
        let numbers = cx.service::<NumbersStub>();
        // All of them go out in one turn, and any worker of the service may take each.
        let squares = try_join_all((1..=most).map(|number| numbers.square(number))).await?;
        Ok(squares.into_iter().sum())
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let worker = partitura.worker().service(NumbersService(Calculator)).workflow::<Sum>().start().await?;
    let ten = partitura.client().workflow::<Sum>("ten");
    ten.start(10).await?;
    let sum = ten.result().await?;
    worker.stop().await?;
    Ok(format!("{sum} is the sum of ten squares"))
}
