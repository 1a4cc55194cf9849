#![allow(unused)]

use partitura::{Cx, workflow};

#[derive(Default)]
struct Checkout {
    packed: bool,
}

#[workflow]
impl Checkout {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }

    #[signal]
    async fn packed_later(&mut self) {}

    #[signal]
    fn packed_elsewhere(&self) {}

    #[signal]
    fn packed_by_nobody() {}

    #[signal]
    fn packed_answering(&mut self) -> bool {
        true
    }

    #[signal]
    fn packed_by(&mut self, packer: &str) {}

    #[query]
    async fn is_packed_soon(&self) -> bool {
        self.packed
    }

    #[query]
    fn pack_and_tell(&mut self) -> bool {
        self.packed
    }

    #[query]
    fn is_anything(&self) {}

    #[query]
    fn generic<T>(&self, value: T) -> bool {
        true
    }

    #[query]
    fn borrowed(&self) -> &bool {
        &self.packed
    }

    #[query]
    #[signal]
    fn both(&mut self) {}

    #[query(nam = "misspelt")]
    fn misspelt(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct SameNames;

#[workflow]
impl SameNames {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }

    #[signal]
    fn f(&mut self) {}

    #[signal(name = "f")]
    fn g(&mut self) {}

    #[query]
    fn h(&self) -> u32 {
        1
    }

    #[query(name = "h")]
    fn i(&self) -> u32 {
        2
    }
}

fn main() {}
