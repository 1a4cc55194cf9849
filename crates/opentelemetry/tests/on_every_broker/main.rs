//! The spans that are exported, the same on every broker.
//!
//! `PARTITURA_BROKERS` names the brokers, separated by spaces, for which the facade's features must be on. Without it,
//! the broker that needs no server is tried. `PARTITURA_BROKER_URL` and `PARTITURA_STORE_URL` name servers that run
//! elsewhere, for one broker.

mod backend;
mod exported;
mod traces;

use std::error::Error;

use libtest_mimic::{Arguments, Trial};

use crate::backend::Backend;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::from_args();
    let brokers = std::env::var("PARTITURA_BROKERS").unwrap_or_else(|_| backend::EMBEDDED.to_owned());
    let mut trials = Vec::new();
    for broker in brokers.split_whitespace() {
        let backend = Backend::named(broker)?;
        let name = format!("{broker}::the_trace_of_a_checkout_survives_a_retry_a_timer_a_child_and_a_restart");
        trials.push(Trial::test(name, move || {
            // One thread, whose spans the trial has exported to it.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(traces::the_trace_of_a_checkout_survives_a_retry_a_timer_a_child_and_a_restart(&backend));
            runtime.shutdown_background();
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}
