//! Any bytes as a record in every format. Run with `cargo +nightly fuzz run formats`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::formats(bytes);
});
