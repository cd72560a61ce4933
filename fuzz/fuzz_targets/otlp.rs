//! Any bytes: spanmill's OTLP decoder against `prost`. Run with `cargo +nightly fuzz run otlp`.
#![no_main]

#[path = "../../tests/support/otlp_check.rs"]
mod otlp_check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    otlp_check::check(bytes);
});
