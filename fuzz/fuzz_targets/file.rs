//! Any bytes as a file of OTLP traces. Run with `cargo +nightly fuzz run file`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::file(bytes);
});
