//! Any bytes in the control file: the writer mutex, the writers' entries.
//!
//! Only writers open it. Garbage in it may keep them from publishing; it must not hang them.
//!
//! The input is decoded in `meddle.rs`. Run: `cargo +nightly fuzz run control_file`.

#![no_main]

mod meddle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| meddle::run(1, input));
