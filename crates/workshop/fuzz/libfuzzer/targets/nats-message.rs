#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| partitura_nats::fuzzing::message(bytes));
