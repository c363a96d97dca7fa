//! What running takes from the system's memory: nothing, and little in islands. Counted for the whole process, so this file has one
//! test, and the least of several runs counts.

#[path = "shared/draw.rs"]
#[expect(dead_code, reason = "other tests draw other graphs")]
mod draw;

use std::alloc::System;

use lowbit_graph::{Graph, Op, Unary};
use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::Pool;
use lowbit_runtime::{Network, Plan};
use lowbit_tensor::DType;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::draw::{draw, draw_floats, images};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Memory that a run takes after one that does not count: how often, and how many bytes.
fn taken((graph, dims): &(Graph, Vec<usize>), threads: usize) -> [usize; 2] {
    let plan = Plan::new(&Network::new(graph, dims).expect("it compiles"), Isa::current());
    let (mut memory, pool) = (plan.memory(), Pool::new(threads));
    let (image, mut scores) = (images(dims, 1, 1), vec![0.0; plan.output_len()]);
    let runs = (0..30).map(|_| {
        let region = Region::new(COUNTING);
        plan.run(&image, &mut scores, &mut memory, &pool);
        let found = region.change();
        [found.allocations + found.reallocations, found.bytes_allocated]
    });
    // A thread that comes late to the first run takes its buffers in another.
    runs.skip(1).min().expect("30 runs")
}

fn has_islands((graph, dims): &(Graph, Vec<usize>)) -> bool {
    let network = Network::new(graph, dims).expect("it compiles");
    Plan::new(&network, Isa::current()).steps().iter().any(|step| step.kind == "island")
}

/// Functions of floats, one after the other: islands all.
fn floats(islands: usize) -> (Graph, Vec<usize>) {
    let (mut graph, dims) = (Graph::new("floats"), vec![1, 8, 20, 20]);
    let mut x = graph.add_input("x", DType::F32, dims.iter().map(|&d| Some(d)).collect());
    for _ in 0..islands {
        x = graph.add_node("hard-swish", Op::Unary(Unary::HardSwish), &[x]);
    }
    graph.outputs = vec![x];
    (graph, dims)
}

#[test]
fn running_takes_no_memory() {
    let drawn = (0..15).map(draw).chain((0..40).map(draw_floats));
    let without: Vec<_> = drawn.filter(|graph| !has_islands(graph)).collect();
    assert!(without.len() > 30, "{}", without.len());
    for graph in &without {
        for threads in [1, 2] {
            assert_eq!(taken(graph, threads), [0, 0], "{threads} threads\n{}", graph.0.dump());
        }
    }
    // An island takes the lists of its operands, its results and a shape, whatever the size of these.
    for islands in [1, 5] {
        let [count, bytes] = taken(&floats(islands), 1);
        assert!(count <= 3 * islands && bytes <= 200 * islands, "{count} times, {bytes} bytes");
    }
}
