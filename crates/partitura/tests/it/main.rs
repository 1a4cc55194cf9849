//! The engine through the front door, on the embedded broker.

mod at_rest;
mod bad_code;
mod bad_input;
mod batches;
mod between;
mod booths;
mod builds;
mod calls;
mod cancelled_delays;
mod carts;
mod catching_up;
mod checking;
mod children;
mod clocks;
mod codecs;
mod compensating;
mod damaged;
mod delegated;
mod deployments;
mod detached;
mod events;
mod far;
mod finding;
mod handlers;
mod heartbeats;
mod held_up;
mod hooked;
mod interrupted;
mod layers;
mod long_tasks;
mod metrics;
mod month;
mod once;
#[expect(dead_code, reason = "its main is run by the test of the example")]
#[path = "../../examples/order.rs"]
mod order;
mod pages;
mod paused;
mod poison;
mod policies;
mod put_back;
mod reads;
mod recorder;
mod recovery;
mod repair;
mod replay_values;
mod reports;
mod requests;
mod restless;
mod results;
mod retention;
mod schedules;
mod sizes;
mod starts;
mod stopped;
mod stores;
mod support;
mod tasks;
mod testing;
mod throttled;
mod troubled;
mod updates;
mod values;
mod virtual_time;
mod waiting;

/// Everything in memory.
async fn in_memory() -> partitura::Partitura {
    partitura::connect("memory:").await.expect("an embedded broker in memory")
}
