#![allow(unused)]

use partitura::{Cx, workflow};

#[derive(Default)]
struct Cart {
    items: Vec<String>,
}

#[workflow]
impl Cart {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }

    #[update]
    fn add_elsewhere(&self, item: String) -> usize {
        0
    }

    #[update]
    fn add_by_nobody(item: String) -> usize {
        0
    }

    #[update]
    async fn add_later(&mut self, item: String) -> usize {
        0
    }

    #[update]
    async fn add_without_context() -> usize {
        0
    }

    #[update]
    fn add_borrowed(&mut self, item: &str) -> usize {
        0
    }

    #[update]
    fn last(&mut self) -> &String {
        &self.items[0]
    }

    #[update]
    fn half_a_result(&mut self) -> std::io::Result<usize> {
        Ok(0)
    }

    #[update(validate = Self::may_count)]
    fn count(&mut self) -> usize {
        0
    }

    #[update(check = Self::may_count)]
    fn misspelt(&mut self) {}

    #[update]
    #[signal]
    fn both(&mut self) {}
}

#[derive(Default)]
struct SameNames;

#[workflow]
impl SameNames {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }

    #[update]
    fn f(&mut self) {}

    #[update(name = "f")]
    fn g(&mut self) {}
}

fn main() {}
