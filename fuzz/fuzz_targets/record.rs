//! Any bytes as a record of a source topic, through a whole span task. Run with `cargo +nightly fuzz run record`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::record(bytes);
});
