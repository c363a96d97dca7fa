"""Makes the seed corpus of the fuzz target `import`: one small model for each family of operators.

    python fuzz/seeds.py

Needs the package onnx.
"""

import pathlib

import numpy
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent / "corpus" / "import"


def constant(name, values, kind=numpy.float32):
    return numpy_helper.from_array(numpy.array(values, kind), name)


def image(name="x"):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, 4, 4])


def save(name, nodes, constants=(), opset=17, microsoft=False, kind=TensorProto.FLOAT):
    for i, node in enumerate(nodes):
        node.name = f"n{i}"
    last = helper.make_tensor_value_info(nodes[-1].output[0], kind, None)
    graph = helper.make_graph(nodes, name, [image()], [last], list(constants))
    opsets = [helper.make_opsetid("", opset)]
    if microsoft:
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, {"note": "seed"})
    (FOLDER / f"seed-{name}.onnx").write_bytes(model.SerializeToString())


def chain(*steps):
    """Nodes that feed each other: (op, further inputs, attributes)."""
    nodes, current = [], "x"
    for i, (op, more, attributes) in enumerate(steps):
        nodes.append(helper.make_node(op, [current, *more], [f"v{i}"], **attributes))
        current = f"v{i}"
    return nodes


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    weight = constant("w", numpy.ones((2, 2, 3, 3)))
    ones = constant("one", [1, 1])
    save("conv", chain(
        ("Conv", ["w"], dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=1)),
        ("BatchNormalization", ["one"] * 4, dict(epsilon=1e-3)),
        ("Relu", [], {}),
        ("MaxPool", [], dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)),
        ("AveragePool", [], dict(kernel_shape=[2, 2], auto_pad="SAME_UPPER", count_include_pad=1)),
        ("GlobalAveragePool", [], {}),
        ("Flatten", [], {}),
        ("Gemm", ["m", "one"], dict(transB=1, alpha=0.5)),
        ("Softmax", [], dict(axis=1)),
    ), [weight, ones, constant("m", numpy.ones((2, 2)))])
    save("old", chain(
        ("Clip", [], dict(min=0.0, max=6.0)),
        ("Pad", [], dict(mode="reflect", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.0)),
        ("Slice", [], dict(starts=[0], ends=[3], axes=[2])),
        ("Unsqueeze", [], dict(axes=[0])),
        ("Squeeze", [], dict(axes=[0])),
        ("ReduceMean", [], dict(axes=[2, 3], keepdims=0)),
        ("Dropout", [], dict(ratio=0.5)),
        ("Softmax", [], dict(axis=0)),
        ("Split", [], dict(axis=1, split=[2])),
    ), opset=9)
    ints = lambda name, values: constant(name, values, numpy.int64)
    save("layout", chain(
        ("Transpose", [], dict(perm=[0, 2, 3, 1])),
        ("Reshape", ["to"], {}),
        ("Gather", ["one"], dict(axis=1)),
        ("Slice", ["zero", "one", "one", "one"], {}),
        ("Concat", ["v3"], dict(axis=0)),
        ("Pad", ["pads"], dict(mode="edge")),
        ("Expand", ["wide"], {}),
        ("ReduceSum", ["one"], dict(keepdims=0)),
        ("Min", ["v7", "v7"], {}),
        ("HardSigmoid", [], dict(alpha=0.1)),
        ("LayerNormalization", ["scale"], dict(axis=-1)),
    ), [ints("to", [0, 32]), ints("one", [1]), ints("zero", [0]), ints("pads", [1, 0, 0, 1]), constant("scale", numpy.ones(5)), ints("wide", [1, 1])])
    save("shapes", [
        helper.make_node("Shape", ["x"], ["s"], start=0, end=1),
        helper.make_node("Constant", [], ["c"], value_ints=[32]),
        helper.make_node("Concat", ["s", "c"], ["t"], axis=0),
        helper.make_node("ConstantOfShape", ["t"], ["f"], value=constant("", [2.0])),
        helper.make_node("Reshape", ["x", "t"], ["r"]),
        helper.make_node("Cast", ["f"], ["g"], to=TensorProto.FLOAT),
        helper.make_node("Equal", ["r", "g"], ["e"]),
        helper.make_node("Where", ["e", "r", "g"], ["y"]),
    ])
    scale, zero = constant("s", 0.5), constant("z", 3, numpy.uint8)
    wide = numpy_helper.from_array(numpy.ones((2, 2, 3, 3), numpy.int8), "w")
    save("quantized", chain(
        ("QuantizeLinear", ["s", "z"], {}),
        ("QLinearConv", ["s", "z", "w", "ws", "wz", "s", "z"], dict(kernel_shape=[3, 3])),
        ("DequantizeLinear", ["s", "z"], dict(axis=1)),
    ), [scale, zero, wide, constant("ws", [0.5, 0.25]), constant("wz", [0, 0], numpy.int8)])
    narrow = TensorProto(name="w", data_type=TensorProto.INT4, dims=[2, 4], raw_data=b"\x12\x34\x56\x78")
    save("blocked", [
        helper.make_node("DequantizeLinear", ["w", "ws"], ["f"], axis=1, block_size=2),
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("MatMul", ["r", "f"], ["y"]),
    ], [narrow, constant("ws", numpy.ones((2, 2))), ints("to", [-1, 2])], opset=21)
    add = helper.make_node("QLinearAdd", ["q", "s", "z", "q", "s", "z", "s", "z"], ["a"], domain="com.microsoft")
    pool = helper.make_node("QLinearGlobalAveragePool", ["a", "s", "z", "s", "z"], ["p"], domain="com.microsoft", channels_last=0)
    joined = helper.make_node("QLinearConcat", ["s", "z", "p", "s", "z", "p", "s", "z"], ["y"], domain="com.microsoft", axis=1)
    quantize = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
    save("microsoft", [quantize, add, pool, joined], [scale, zero], microsoft=True, kind=TensorProto.UINT8)
    dynamic = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"])
    conv = helper.make_node("ConvInteger", ["q", "w", "qz"], ["y"])
    save("dynamic", [dynamic, conv], [wide], kind=TensorProto.INT32)


if __name__ == "__main__":
    main()
