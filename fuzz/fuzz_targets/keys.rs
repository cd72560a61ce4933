//! Names and IDs that an attacker chooses, through a span task. Run with `cargo +nightly fuzz run keys`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any_bytes::keys(bytes);
});
