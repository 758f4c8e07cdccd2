//! Any bytes in the data file: geometry, state, latest word, descriptors, values.
//!
//! Readers map it and believe none of it; who may write it is trusted with the values, and with
//! nothing else.
//!
//! The input is decoded in `meddle.rs`. Run: `cargo +nightly fuzz run data_file`.

#![no_main]

mod meddle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| meddle::run(0, input));
