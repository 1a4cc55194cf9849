//! A worker runs what `#[workflow]` makes a workflow of, and a client finds instances of it.

use partitura::{Client, Partitura};

#[derive(Default)]
struct Checkout;

fn start(partitura: Partitura, client: Client) {
    let _ = partitura.worker().workflow::<Checkout>();
    let _ = client.workflow::<Checkout>("order-42");
}

fn main() {}
