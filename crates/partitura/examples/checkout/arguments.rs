use std::fs::File;
use std::io::{self, BufReader};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

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
    /// Where the ledgers are, and the embedded broker; run again with the same directory to go on. A new temporary one
    /// otherwise
    #[arg(long, value_name = "DIR", required_if_eq_any([("role", "services"), ("role", "client")]))]
    data: Option<PathBuf>,
    /// The broker: nats://…, kafka://…, amqp://…, pulsar://…. The embedded one in the data directory otherwise
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Where the state of workflows is kept: postgres://…. With the broker otherwise, where it can
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// The role of this process; any number of processes may do the same, and each goes on until it is told to stop
    #[arg(long, value_enum, default_value = "all")]
    pub role: Role,
    /// Names this run on a broker that others use, too. Processes with the same name work together
    #[arg(long, value_name = "NAME", default_value = "checkout")]
    pub run: String,
    /// How many orders are under way at a time
    #[arg(long, value_name = "N", default_value = "500")]
    pub in_flight: NonZeroUsize,
    /// Ends with the figures as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// All of it
    All,
    /// Conducts the workflows
    Workflows,
    /// Runs the four services
    Services,
    /// Starts a checkout for each order, awaits the outcomes, and sees whether the books balance
    Client,
}

impl Role {
    pub fn conducts_workflows(self) -> bool {
        matches!(self, Self::All | Self::Workflows)
    }

    pub fn runs_services(self) -> bool {
        matches!(self, Self::All | Self::Services)
    }

    pub fn serves_customers(self) -> bool {
        matches!(self, Self::All | Self::Client)
    }
}

impl Arguments {
    /// The one place that knows which broker there is.
    pub fn broker(&self, data: &Path) -> String {
        self.broker.clone().unwrap_or_else(|| format!("embedded:{}", data.display()))
    }

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
