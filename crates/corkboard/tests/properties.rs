//! Boards, streams and calls against models: any sequence of operations does what a list of values,
//! of records or of calls would do.

#[path = "common/call_model.rs"]
mod call_model;
mod common;
#[path = "common/model.rs"]
mod model;
#[path = "common/stream_model.rs"]
mod stream_model;

use call_model::{CallModel, CallOp, CallShape};
use common::Scratch;
use model::{Model, Op, Shape};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        // Wine takes far longer to make files and memory.
        cases: if cfg!(windows) { 30 } else { 400 },
        // The failing steps are printed; a file of seeds would outlive the code they are for.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_board_behaves_like_the_list_of_its_values(
        shape in any::<[u8; 4]>().prop_map(Shape::from_bytes),
        ops in vec(any::<[u8; 4]>().prop_map(Op::from_bytes), 1..150),
    ) {
        let scratch = Scratch::new();
        let mut model = Model::new(scratch.space(), shape, true);
        for op in ops {
            model.step(op);
        }
    }

    #[test]
    fn a_stream_behaves_like_the_list_of_its_records(
        shape in any::<[u8; 4]>().prop_map(stream_model::Shape::from_bytes),
        ops in vec(any::<[u8; 4]>().prop_map(stream_model::Op::from_bytes), 1..200),
    ) {
        let scratch = Scratch::new();
        let mut model = stream_model::Model::new(scratch.space(), shape);
        for op in ops {
            model.step(op);
        }
    }

    #[test]
    fn a_call_behaves_like_the_list_of_what_was_asked_and_answered(
        shape in any::<[u8; 3]>().prop_map(CallShape::from_bytes),
        ops in vec(any::<[u8; 4]>().prop_map(CallOp::from_bytes), 1..150),
    ) {
        let scratch = Scratch::new();
        let mut model = CallModel::new(scratch.space(), shape);
        for op in ops {
            model.step(op);
        }
    }
}
