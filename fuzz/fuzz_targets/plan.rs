//! Any bytes as the plan of a replay. Run with `cargo +nightly fuzz run --features replay plan`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::plan(bytes);
});
