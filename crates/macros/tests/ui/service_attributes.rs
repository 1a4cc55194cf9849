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

fn main() {}
