use std::fs::File;
use std::io::{self, BufReader};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::intake::Intake;

/// The checkout of an online shop, as durable workflows.
#[derive(Debug, clap::Parser)]
#[command(name = "checkout")]
pub struct Arguments {
    /// Orders as JSON lines; `-` reads the standard input. A small sample otherwise
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Makes up this many orders instead
    #[arg(long, value_name = "N", conflicts_with = "input")]
    orders: Option<usize>,
    /// Which orders to make up: the same seed, the same orders
    #[arg(long, default_value_t = 1, requires = "orders")]
    seed: u64,
    /// Where the state is kept; run again with the same directory to go on. A new temporary one otherwise
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many orders are under way at a time
    #[arg(long, value_name = "N", default_value = "500")]
    pub in_flight: NonZeroUsize,
    /// Ends with the figures as one line of JSON
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    pub fn intake(&self) -> io::Result<Intake> {
        match (&self.input, self.orders) {
            (Some(path), _) if path.as_os_str() == "-" => Intake::read("stdin", io::stdin().lock()),
            (Some(path), _) => {
                let name = path.display().to_string();
                let lines = File::open(path).map(BufReader::new);
                lines.and_then(|lines| Intake::read(&name, lines)).map_err(|error| {
                    io::Error::new(error.kind(), format!("the orders cannot be read from {name}: {error}"))
                })
            }
            (None, Some(n)) => Ok(Intake::made_up(n, self.seed)),
            (None, None) => Intake::sample(),
        }
    }

    pub fn data(&self) -> io::Result<PathBuf> {
        match &self.data {
            Some(directory) => Ok(directory.clone()),
            None => Ok(tempfile::Builder::new().prefix("checkout-").tempdir()?.keep()),
        }
    }
}
