//! Any bytes as a configuration. Run with `cargo +nightly fuzz run config`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::config(bytes);
});
