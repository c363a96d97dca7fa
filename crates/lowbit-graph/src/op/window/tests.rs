use super::*;

const PLAIN: WindowSpec = WindowSpec {
    kernel: [3, 3],
    strides: [1, 1],
    dilations: [1, 1],
    pads: [0; 4],
    auto_pad: AutoPad::Explicit,
    ceil_mode: false,
};

fn check(input: usize, spec: WindowSpec, output: usize, pads: [usize; 2]) {
    let window = resolve_window([input, input], &spec).unwrap();
    assert_eq!(window.output, [output, output], "{input} {spec:?}");
    assert_eq!(window.pads, [pads[0], pads[0], pads[1], pads[1]], "{input} {spec:?}");
}

#[test]
fn explicit_pads() {
    check(5, PLAIN, 3, [0, 0]);
    check(224, WindowSpec { strides: [2, 2], pads: [1; 4], ..PLAIN }, 112, [1, 1]);
    check(7, WindowSpec { dilations: [2, 2], ..PLAIN }, 3, [0, 0]);
    check(5, WindowSpec { auto_pad: AutoPad::Valid, pads: [9; 4], ..PLAIN }, 3, [0, 0]);
}

#[test]
fn same_pads_put_the_odd_one_last_or_first() {
    let upper = WindowSpec { strides: [2, 2], auto_pad: AutoPad::SameUpper, ..PLAIN };
    check(224, upper, 112, [0, 1]);
    check(225, upper, 113, [1, 1]);
    check(224, WindowSpec { auto_pad: AutoPad::SameLower, ..upper }, 112, [1, 0]);
    check(8, WindowSpec { kernel: [1, 1], ..upper }, 4, [0, 0]);
}

#[test]
fn ceil_mode_keeps_partial_windows_that_start_in_the_data() {
    let ceil = WindowSpec { strides: [2, 2], ceil_mode: true, ..PLAIN };
    check(4, ceil, 2, [0, 0]);
    check(112, ceil, 56, [0, 0]);
    check(2, ceil, 1, [0, 0]);
    // ONNX maxpool_2d_ceil_output_size_reduce_by_one.
    check(2, WindowSpec { kernel: [1, 1], ..ceil }, 1, [0, 0]);
    check(5, WindowSpec { kernel: [2, 2], strides: [3, 3], pads: [1; 4], ..ceil }, 2, [1, 1]);
}

#[test]
fn impossible_windows_are_errors() {
    let refused = |input, spec| assert!(resolve_window([input, input], &spec).is_err(), "{spec:?}");
    refused(2, PLAIN);
    refused(0, WindowSpec { ceil_mode: true, ..PLAIN });
    refused(5, WindowSpec { kernel: [0, 3], ..PLAIN });
    refused(5, WindowSpec { strides: [1, 0], ..PLAIN });
    refused(5, WindowSpec { dilations: [0, 1], ..PLAIN });
    refused(5, WindowSpec { pads: [usize::MAX; 4], ..PLAIN });
    refused(5, WindowSpec { kernel: [usize::MAX; 2], dilations: [usize::MAX; 2], ..PLAIN });
}
