//! The value of a workflow's type is the state of an instance, so a new one needs a first state.

#![allow(unused)]

use partitura::{Cx, workflow};

struct WithoutDefault;

#[workflow]
impl WithoutDefault {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

fn main() {}
