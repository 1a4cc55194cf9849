#![allow(unused)]

use partitura::{Cx, workflow};

#[derive(Default)]
struct Generic<T>(T);

#[workflow]
impl<T> Generic<T> {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
struct OfATrait;

trait Process {
    async fn run(cx: Cx<Self>) -> Result<(), String>
    where
        Self: Sized;
}

#[workflow]
impl Process for OfATrait {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), String> {
        Ok(())
    }
}

#[workflow]
struct NotAnImpl;

fn main() {}
