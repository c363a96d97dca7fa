//! Operators that the graph's executor runs, on tensors in the graph's own layout. Tensors and buffers are the plan's: a run takes
//! them from the one before.

use lowbit_graph::{Input, Session, Workspace};
use lowbit_tensor::{DType, Tensor};

use super::{Memory, Plan, Slot, glue};
use crate::network::{Codes, ValueIndex};

/// What the islands of a plan run in.
#[derive(Debug)]
pub(super) struct Room {
    /// Operands, one set for islands that read tensors of the same types and shapes.
    feeds: Vec<Vec<Tensor>>,
    work: Workspace,
}

impl Room {
    /// Nothing yet: each island takes what it needs when it first runs.
    pub(super) fn new() -> Room {
        Room { feeds: vec![], work: Workspace::serial() }
    }
}

/// The tensors for operands as they are declared, whose dimensions are known.
fn feeds_for<'a>(feeds: &'a mut Vec<Vec<Tensor>>, declared: &[Input]) -> &'a mut [Tensor] {
    let fits = |(tensor, input): (&Tensor, &Input)| {
        let dims = tensor.shape().iter().zip(&input.dims);
        tensor.dtype() == input.dtype
            && tensor.rank() == input.dims.len()
            && dims.into_iter().all(|(&own, &dim)| Some(own) == dim)
    };
    let fit = |set: &Vec<Tensor>| set.len() == declared.len() && set.iter().zip(declared).all(fits);
    let at = feeds.iter().position(fit).unwrap_or_else(|| {
        feeds.push(declared.iter().map(zeros).collect());
        feeds.len() - 1
    });
    &mut feeds[at]
}

fn zeros(input: &Input) -> Tensor {
    let dims: Vec<usize> = input.dims.iter().map(|dim| dim.unwrap_or(1)).collect();
    match input.dtype {
        DType::F32 => Tensor::full(dims, 0.0f32),
        DType::I8 => Tensor::full(dims, 0i8),
        _ => Tensor::full(dims, 0u8),
    }
}

/// Runs the one operator of `session`.
pub(super) fn run(
    session: &Session,
    (inputs, outputs): (&[ValueIndex], &[ValueIndex]),
    (plan, input): (&Plan, &[f32]),
    memory: &mut Memory,
) {
    let Memory { arena, floats, room, .. } = memory;
    let feeds = feeds_for(&mut room.feeds, &session.graph().inputs);
    for (&value, feed) in inputs.iter().zip(feeds.iter_mut()) {
        let slot = &plan.slots[value];
        if value == plan.input {
            feed.as_mut_slice().expect(DECLARED).copy_from_slice(input);
        } else {
            read(slot, (arena, floats), feed);
        }
    }
    let show = &mut |index: usize, result: &Tensor| {
        write(&plan.slots[outputs[index]], result, (arena, floats));
    };
    session
        .run_alone(feeds, &mut room.work, show)
        .expect("the operator ran on zeros of the same shapes when it was compiled");
}

const DECLARED: &str = "the tensor was made as the island declares it";

/// Copies a value to a tensor.
fn read(slot: &Slot, (arena, floats): (&[u8], &[f32]), feed: &mut Tensor) {
    let range = slot.range.clone();
    match slot.codes {
        None => feed.as_mut_slice().expect(DECLARED).copy_from_slice(&floats[range]),
        Some(Codes { signed, .. }) => {
            let from = (&arena[range], &slot.layout);
            if signed {
                let to = feed.as_mut_slice::<i8>().expect(DECLARED);
                glue::to_planes(from, to, |code| (code ^ 128).cast_signed());
            } else {
                glue::to_planes(from, feed.as_mut_slice::<u8>().expect(DECLARED), |code| code);
            }
        }
    }
}

/// Copies a tensor to a value.
fn write(slot: &Slot, result: &Tensor, (arena, floats): (&mut [u8], &mut [f32])) {
    let range = slot.range.clone();
    match slot.codes {
        None => floats[range].copy_from_slice(result.f32s()),
        Some(Codes { signed, .. }) => {
            let to = (&mut arena[range], &slot.layout);
            if signed {
                let codes = result.as_slice::<i8>().expect("the type that it was compiled with");
                glue::from_planes(codes, to, |code| code.cast_unsigned() ^ 128);
            } else {
                let codes = result.as_slice::<u8>().expect("the type that it was compiled with");
                glue::from_planes(codes, to, |code| code);
            }
        }
    }
}
