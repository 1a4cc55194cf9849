#![allow(unused)]

use partitura::service;

#[service(nam = "payments")]
trait Misspelt {}

#[service(name = "")]
trait Nameless {}

#[service]
trait Generic<T> {
    async fn get(&self) -> u64;
}

#[service]
struct NotATrait;

#[service]
trait Options {
    #[task(retries = 3)]
    async fn misspelt(&self) -> Result<(), String>;
    #[task(retry_if = Option::is_some)]
    async fn infallible(&self) -> u64;
}

#[service]
trait SameName {
    async fn f(&self);
    #[task(name = "f")]
    async fn g(&self);
}

#[service]
trait Zahlungä {}

#[service(name = "pay ments")]
trait WithASpace {}

#[service(name = "a-name-that-is-too-long-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]
trait TooLong {}

fn main() {}
