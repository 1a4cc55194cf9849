//! The error type of a step that cannot fail has to be written.

use partitura::{Cx, Never, TaskError};

async fn with_it<W>(cx: Cx<W>) -> Result<u32, TaskError<Never>> {
    cx.step("count", async { Ok::<_, Never>(1) }).await
}

async fn without_it<W>(cx: Cx<W>) -> u32 {
    cx.step("count", async { Ok(1) }).await.unwrap_or(0)
}

fn main() {}
