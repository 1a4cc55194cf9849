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

#[service]
#[limit(per = "tenant", at_most = 5)]
trait Limits {
    #[limit(per = "order")]
    async fn of_how_many(&self, order: u64);
    #[limit(at_most = 0)]
    async fn none(&self, order: u64);
    #[limit(per = "customer.id", at_most = 5)]
    async fn unknown(&self, order: u64, cents: u64);
    #[limit(per = "order", most = 5)]
    async fn misspelt(&self, order: u64);
}

#[service]
trait Predicates {
    #[task(retry_if = |error| error.is_none())]
    async fn of_another_type(&self) -> Result<(), String>;
}

#[service]
trait Batches {
    #[batch]
    async fn of_how_many(&self, docs: Vec<String>) -> Vec<u64>;
    #[batch(max = 0, within_ms = 20)]
    async fn of_none(&self, docs: Vec<String>) -> Vec<u64>;
    #[batch(max = 10, within_ms = 20)]
    async fn of_one(&self, doc: String) -> Vec<u64>;
    #[batch(max = 10, within_ms = 20)]
    async fn of_pairs(&self, docs: Vec<String>, shelves: Vec<u64>) -> Vec<u64>;
    #[batch(max = 10, within_ms = 20)]
    async fn for_one(&self, docs: Vec<String>) -> Result<u64, String>;
    #[batch(max = 10, within_ms = 20)]
    async fn for_all(&self, docs: Vec<String>) -> Result<Vec<u64>, String>;
    #[batch(max = 10, within_ms = 20)]
    async fn for_nothing(&self, docs: Vec<String>);
    #[batch(max = 10, within_ms = 20, per = "tenant")]
    async fn unknown(&self, docs: Vec<String>) -> Vec<Result<u64, String>>;
    #[batch(max = 10, seconds = 1)]
    async fn misspelt(&self, docs: Vec<String>) -> Vec<u64>;
}

fn main() {}
