//! A worker runs the wrapper that `#[service]` generates.

use partitura::Partitura;

#[partitura::service]
pub trait Payments {
    async fn charge(&self, cents: u64) -> u64;
}

struct Acquirer;

impl Payments for Acquirer {
    async fn charge(&self, cents: u64) -> u64 {
        cents
    }
}

fn start(partitura: Partitura) {
    let _ = partitura.worker().service(Acquirer);
}

fn main() {}
