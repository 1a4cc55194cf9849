#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| partitura_embedded::fuzzing::message(bytes));
