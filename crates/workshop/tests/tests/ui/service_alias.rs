//! An alias of `Result` would hide the error's type, and with it the method's retries.

use partitura::service;

type Charged = Result<u64, String>;

#[service]
pub trait Payments {
    async fn charge(&self, cents: u64) -> Charged;
}

fn main() {}
