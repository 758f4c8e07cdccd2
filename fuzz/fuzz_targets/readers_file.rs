//! Any bytes in the readers' table: pins, the waiting word, the readers' entries.
//!
//! Everyone who may pin writes it. Garbage in it may cost slots and wakes, never a value.
//!
//! The input is decoded in `meddle.rs`. Run: `cargo +nightly fuzz run readers_file`.

#![no_main]

mod meddle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| meddle::run(2, input));
