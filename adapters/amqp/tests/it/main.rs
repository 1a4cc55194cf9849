//! The profiles for brokers that cannot be had here, on a peer that plays what their documentation says.

mod peer;
mod servicebus;
mod solace;
mod support;
