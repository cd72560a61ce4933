//! Any bytes as a record of the deltas topic. Run with `cargo +nightly fuzz run delta record`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::delta_record(bytes);
});
