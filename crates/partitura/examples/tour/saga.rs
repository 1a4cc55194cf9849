//! A workflow that undoes what it has done when it fails.

use std::sync::{Arc, Mutex};

use partitura::{Cx, Partitura, TaskError};

use crate::said::Said;

#[partitura::service]
trait Travel {
    async fn book_hotel(&self, city: String) -> Result<String, Full>;
    async fn cancel_hotel(&self, booking: String) -> Result<(), Full>;
    async fn book_flight(&self, city: String) -> Result<String, Full>;
}

#[derive(Debug, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("no seat left")]
struct Full;

#[derive(Default, Clone)]
struct Agency(Arc<Mutex<Vec<String>>>);

impl Travel for Agency {
    async fn book_hotel(&self, city: String) -> Result<String, Full> {
        Ok(format!("hotel in {city}"))
    }
    async fn cancel_hotel(&self, booking: String) -> Result<(), Full> {
        self.0.lock().expect("not poisoned").push(booking);
        Ok(())
    }
    async fn book_flight(&self, _city: String) -> Result<String, Full> {
        Err(Full)
    }
}

#[derive(Default)]
struct Trip;

#[partitura::workflow]
impl Trip {
    #[run]
    async fn run(cx: Cx<Self>, city: String) -> Result<String, TaskError<Full>> {
        let (travel, mut saga) = (cx.service::<TravelStub>(), cx.saga());
        let hotel = travel.book_hotel(city.clone()).await?;
        saga.on_failure(travel.cancel_hotel(hotel)); // runs only if the workflow fails
        travel.book_flight(city).await
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let agency = Agency::default();
    let worker = partitura.worker().service(TravelService(agency.clone())).workflow::<Trip>().start().await?;
    let trip = partitura.client().workflow::<Trip>("rome");
    trip.start("Rome".to_owned()).await?;
    let failed = trip.result().await;
    worker.stop().await?;
    let undone = agency.0.lock().expect("not poisoned").join(", ");
    Ok(format!("{}; undone: {undone}", failed.err().map_or_else(String::new, |error| error.to_string())))
}
