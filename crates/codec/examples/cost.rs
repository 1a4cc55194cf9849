//! Measures the cost of exactness beside serde_json alone: `cargo run --release -p partitura-codec --example cost`.

use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    customer: String,
    lines: Vec<Line>,
    express: bool,
    note: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    article: String,
    pieces: u32,
    price: f64,
}

fn order() -> Order {
    let line = |article: &str, price| Line { article: article.to_owned(), pieces: 2, price };
    Order {
        id: "0198f0c2-5b1e-7c3a-9d51-2f6f1f0a7c11".to_owned(),
        customer: "ada".to_owned(),
        lines: vec![line("chair", 79.9), line("table", 249.0)],
        express: true,
        note: None,
    }
}

/// Returns the nanoseconds of one call: the best of many short rounds, so that other processes do not count.
fn measure<R>(call: impl Fn() -> R) -> f64 {
    const CALLS: u32 = 500;
    let round = || {
        let begin = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        begin.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..2_000).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order = order();
    let json = serde_json::to_string(&order)?;
    println!("a struct of {} bytes, nanoseconds per call", json.len());
    println!("encode, serde_json: {:.0}", measure(|| serde_json::to_string(black_box(&order))));
    println!("encode, exact:      {:.0}", measure(|| partitura_codec::encode(black_box(&order))));
    println!("decode, serde_json: {:.0}", measure(|| serde_json::from_str::<Order>(black_box(&json))));
    println!("decode, exact:      {:.0}", measure(|| partitura_codec::decode::<Order>(black_box(&json))));
    Ok(())
}
