//! Any bytes as filter policies, rules for span names, and span names. Run with `cargo +nightly fuzz run text_rules`.
#![no_main]

#[path = "../../tests/support/any_bytes.rs"]
mod any_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let half = bytes.len() / 2;
    any_bytes::text_rules(&bytes[..half], &bytes[half..]);
});
