//! Wrong shapes are compile errors that say what to write. `TRYBUILD=overwrite cargo test -p partitura-tests` pins new
//! ones.

#[test]
fn wrong_shapes_are_compile_errors_that_say_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/*.rs");
}
