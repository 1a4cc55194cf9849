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

#[derive(Default)]
struct BorrowedResult;

#[workflow]
impl BorrowedResult {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<&'static str, String> {
        Ok("done")
    }
}

#[derive(Default)]
struct BorrowedInput;

#[workflow]
impl BorrowedInput {
    #[run]
    async fn run(cx: Cx<Self>, names: [&'static str; 2]) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct DynamicError;

#[workflow]
impl DynamicError {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

type Outcome = Result<(), String>;

#[derive(Default)]
struct AliasedResult;

#[workflow]
impl AliasedResult {
    #[run]
    async fn run(cx: Cx<Self>) -> Outcome {
        Ok(())
    }
}

#[derive(Default)]
struct Zahlungä;

#[workflow]
impl Zahlungä {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

fn main() {}
