//! The workflow crate from its users' side: what authors write, driven event by event without any runtime.

#![allow(clippy::unwrap_used)]

// Generated code names `::partitura`; here that is this crate itself.
extern crate partitura_workflow as partitura;

mod calls;
mod cancellation;
mod channels;
mod continuing;
mod dropping;
mod format;
mod handlers;
mod harness;
mod ids;
mod interleavings;
mod lists;
mod macros;
mod replay;
mod retrying;
mod sagas;
mod scale;
mod sends;
mod shielded;
mod side_by_side;
mod stops;
mod time;
mod updates;
mod values;
mod versions;
