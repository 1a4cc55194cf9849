use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io::{self, BufRead};

use crate::chance;
use crate::orders::{Cents, Order, OrderId};

/// The orders of one run, and the lines that are none.
#[derive(Debug, Default)]
pub struct Intake {
    pub orders: Vec<Order>,
    pub skipped: Vec<Skipped>,
}

/// A line that is no order, and why.
#[derive(Debug)]
pub struct Skipped {
    source: String,
    line: usize,
    reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: skipped: {}", self.source, self.line, self.reason)
    }
}

impl Intake {
    /// One of everything.
    pub fn sample() -> io::Result<Self> {
        Self::read("the sample", include_bytes!("sample.jsonl").as_slice())
    }

    /// Orders as JSON, one a line. Blank lines do not count as orders; what is malformed is skipped.
    pub fn read(source: &str, mut lines: impl BufRead) -> io::Result<Self> {
        let mut intake = Self::default();
        let mut first_seen = HashMap::new();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match order_of(&line, number, &mut first_seen) {
                Ok(order) => intake.orders.push(order),
                Err(reason) => intake.skipped.push(Skipped { source: source.to_owned(), line: number, reason }),
            }
        }
        Ok(intake)
    }

    /// The same orders for the same seed; more of them begin with the same ones.
    pub fn made_up(n: usize, seed: u64) -> Self {
        Self { orders: (1..=n).map(|number| made_up(number, seed)).collect(), skipped: Vec::new() }
    }
}

fn order_of(line: &[u8], number: usize, first_seen: &mut HashMap<OrderId, usize>) -> Result<Order, String> {
    let order: Order = serde_json::from_slice(line).map_err(|error| {
        // The column is of use, "line 1" is not: each line is a document of its own.
        error.to_string().replace(" at line 1 column ", " at column ")
    })?;
    if let Some(problem) = order.problem() {
        return Err(problem.to_owned());
    }
    match first_seen.entry(order.id.clone()) {
        Entry::Occupied(first) => Err(format!("`id` {} is taken by line {}", order.id, first.get())),
        Entry::Vacant(vacant) => {
            vacant.insert(number);
            Ok(order)
        }
    }
}

/// Of a hundred orders about eighty-five go through.
fn made_up(number: usize, seed: u64) -> Order {
    const ITEMS: [(&str, u64); 5] =
        [("violin", 48_000), ("flute", 21_050), ("metronome", 3_990), ("rosin", 650), ("tuning fork", 1_295)];
    let roll = |what: &str| chance::roll((seed, number, what));
    let (item, price) = ITEMS[pick(roll("item"), ITEMS.len())];
    let units = 1 + pick(roll("units"), 4);
    let mut order = Order {
        id: OrderId(format!("order-{seed}-{number:06}")),
        item: item.to_owned(),
        units: units as u32,
        total: Cents(price * units as u64),
        card: format!("4000 0000 0000 {:04}", 1_000 + roll("card") % 9_000),
        address: format!("{} Bow Street", 1 + roll("address") % 200),
        pack_within_ms: None,
    };
    match roll("fate") % 100 {
        0..5 => order.item = "theremin".to_owned(),
        5..10 => order.card = "4000 0000 0000 0002".to_owned(),
        10..12 => (order.item, order.pack_within_ms) = ("grand piano".to_owned(), Some(300 + roll("patience") % 700)),
        12..15 => order.address = "1 Main Square, Atlantis".to_owned(),
        _ => {}
    }
    order
}

fn pick(roll: u64, of: usize) -> usize {
    (roll % of as u64) as usize
}
