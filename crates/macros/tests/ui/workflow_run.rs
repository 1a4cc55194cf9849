#![allow(unused)]

use partitura::{Cx, workflow};

#[derive(Default)]
struct Missing;

#[workflow]
impl Missing {
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct Twice;

#[workflow]
impl Twice {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }

    #[run]
    async fn run_again(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct Receiver;

#[workflow]
impl Receiver {
    #[run]
    async fn run(&self, cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct Sync;

#[workflow]
impl Sync {
    #[run]
    fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct NoContext;

#[workflow]
impl NoContext {
    #[run]
    async fn run() -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct ManyInputs;

#[workflow]
impl ManyInputs {
    #[run]
    async fn run(cx: Cx<Self>, order: String, amount: u64) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct NoResult;

#[workflow]
impl NoResult {
    #[run]
    async fn run(cx: Cx<Self>) {}
}

#[derive(Default)]
struct PlainResult;

#[workflow]
impl PlainResult {
    #[run]
    async fn run(cx: Cx<Self>) -> u64 {
        1
    }
}

#[derive(Default)]
struct HalfResult;

#[workflow]
impl HalfResult {
    #[run]
    async fn run(cx: Cx<Self>) -> std::io::Result<u64> {
        Ok(1)
    }
}

fn main() {}
