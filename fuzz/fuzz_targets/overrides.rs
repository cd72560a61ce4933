//! Any bytes as the overrides of tenants. Run with `cargo +nightly fuzz run overrides`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::overrides(bytes);
});
