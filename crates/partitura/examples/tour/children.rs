//! A workflow that runs others below it, each with a history of its own.

use partitura::{Cancelled, ChildError, Cx, Partitura, try_join_all};

use crate::said::Said;

#[derive(Default)]
struct Parcel;

#[partitura::workflow]
impl Parcel {
    #[run]
    async fn run(_cx: Cx<Self>, item: String) -> Result<String, Cancelled> {
        Ok(format!("parcel of {item}"))
    }
}

#[derive(Default)]
struct Shipment;

#[partitura::workflow]
impl Shipment {
    #[run]
    async fn run(cx: Cx<Self>, items: Vec<String>) -> Result<String, ChildError<Cancelled>> {
        let parcel = |item: String| cx.child::<Parcel>(format!("{}-{item}", cx.id())).run(item);
        Ok(try_join_all(items.into_iter().map(parcel)).await?.join(", "))
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    // A child's workflow is registered, too: here, or in another process.
    let worker = partitura.worker().workflow::<Shipment>().workflow::<Parcel>().start().await?;
    let shipment = partitura.client().workflow::<Shipment>("order-42");
    shipment.start(vec!["tea".to_owned(), "milk".to_owned()]).await?;
    let parcels = shipment.result().await?;
    worker.stop().await?;
    Ok(parcels)
}
