//! Any bytes as a journal, its frames, their bodies, and the fold. Run with `cargo +nightly fuzz run journal`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::journal(bytes);
});
