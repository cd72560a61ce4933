//! Any bytes as the configuration of Tempo or of the Collector. Run with `cargo +nightly fuzz run import`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::import(bytes);
});
