//! Any bytes as the snapshot of a shard. Run with `cargo +nightly fuzz run snapshot`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::snapshot(bytes);
});
