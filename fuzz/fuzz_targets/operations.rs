//! Any sequence of operations, against a list of the values that were published.
//!
//! The input is four bytes for the board's shape and four for each operation, decoded in the
//! model that `tests/properties.rs` uses, too. Run: `cargo +nightly fuzz run operations`.

#![no_main]

#[path = "../../crates/corkboard/tests/common/model.rs"]
mod model;
#[path = "meddle/scratch.rs"]
mod scratch;

use libfuzzer_sys::{Corpus, fuzz_target};
use model::{Model, Op, Shape};

fuzz_target!(|input: &[u8]| -> Corpus {
    let (chunks, _) = input.as_chunks::<4>();
    let Some((shape, ops)) = chunks.split_first() else {
        return Corpus::Reject;
    };
    // A forgotten loan of private memory would be reported as a leak.
    let mut model = Model::new(scratch::space(), Shape::from_bytes(*shape), false);
    for op in ops {
        model.step(Op::from_bytes(*op));
    }
    Corpus::Keep
});
