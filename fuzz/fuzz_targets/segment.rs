//! Any bytes as a segment of a spool, and as a request in one. Run with `cargo +nightly fuzz run segment`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::segment(bytes);
});
