//! Tests of crates that need crates above them: they are in `tests/`, and this crate is nothing but their place.
//!
//! A crate does not depend on one that depends on it, not in its tests either. Otherwise nobody could publish and
//! verify the crates one after another. The lanes are tried on the embedded broker, whose own tests need the
//! conformance suite, which needs the lanes; and the macros write code that names the facade.
