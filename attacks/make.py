"""Makes hostile and broken ONNX files, and the table of what each must answer.

    python attacks/make.py

writes models/*.onnx, files beside them that external data points at, and expected.toml. Needs the package onnx.
`import` in the table: part of the error of reading the file. `run`: the file is read, and running it is the error.
`fine`: the file is read, and says why that is right.

containers/*.lbz are hostile compressed models (crates/lowbit/src/compressed.rs); containers.toml has their errors.
"""

import pathlib
import shutil
import struct
import zlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
MODELS = HERE / "models"
ROWS = []
CONTAINERS = HERE / "containers"
CONTAINER_ROWS = []


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def raw(name, dims, data, kind=TensorProto.FLOAT):
    tensor = TensorProto(name=name, data_type=kind, raw_data=data)
    tensor.dims.extend(dims)
    return tensor


def model(nodes, inputs=None, outputs=None, constants=(), opset=17, **extra):
    inputs = [value("x", ["N", 4])] if inputs is None else inputs
    outputs = [value("y", None)] if outputs is None else outputs
    graph = helper.make_graph(nodes, "attack", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", opset), *extra.pop("opsets", [])]
    made = helper.make_model(graph, opset_imports=opsets, **extra)
    made.ir_version = 8
    return made


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name="n", **attributes)


def save(name, made, kind, text):
    data = made if isinstance(made, bytes) else made.SerializeToString()
    (MODELS / f"{name}.onnx").write_bytes(data)
    ROWS.append((name, kind, text))


def relu(**extra):
    return model([node("Relu", ["x"], ["y"])], **extra)


def relu_and(constants):
    return model([node("Relu", ["x"], ["y"])], constants=constants)


def broken_protobuf():
    good = relu().SerializeToString()
    save("empty", b"", "import", "opset: found none")
    save("text", b"this is no protobuf at all\n", "import", "not an ONNX model")
    save("truncated", good[: len(good) // 2], "import", "not an ONNX model")
    save("length_beyond_end", b"\x3a\xff\xff\xff\xff\x0f" + good, "import", "not an ONNX model")
    nested = b""
    for _ in range(300):  # GraphProto.node[0].attribute[0].g, again and again
        for field in (0x32, 0x2A, 0x0A):
            nested = bytes([field]) + varint(len(nested)) + nested
    save("recursion_bomb", b"\x3a" + varint(len(nested)) + nested, "import", "recursion limit")


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def wrong_models():
    save("no_graph", onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]), "import", "graph: found none")
    save("opset_99", relu(opset=99), "import", "opset: found 99, supported: 7 to 25")
    save("opset_negative", relu(opset=-1), "import", "opset: found -1")
    twice = relu(opsets=[helper.make_opsetid("ai.onnx", 13)])
    save("opset_twice", twice, "import", "opset_import")
    foreign = [helper.make_node("Relu", ["x"], ["y"], name="n", domain="org.unknown")]
    save("unknown_domain", model(foreign), "import", 'operator "Relu" of domain "org.unknown" is not supported')
    save("unknown_operator", model([node("Frobnicate", ["x"], ["y"])]), "import", 'operator "Frobnicate"')
    function = helper.make_function("f", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    save("function", relu(functions=[function]), "import", 'functions: found function "F"')
    save("no_outputs", model([node("Relu", ["x"], ["y"])], outputs=[]), "import", "graph outputs: found none")
    branch = helper.make_graph([], "b", [], [])
    save("subgraph", model([node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]), "import", 'operator "If"')
    hidden = node("Relu", ["x"], ["y"])
    hidden.attribute.append(helper.make_attribute("body", branch))
    save("subgraph_attribute", model([hidden]), "import", 'attribute "body": found type graph')


def wrong_graphs():
    cycle = [helper.make_node("Add", ["x", "b"], ["a"], name="first"), helper.make_node("Relu", ["a"], ["b"], name="second")]
    save("cycle", model(cycle, outputs=[value("b", None)]), "import", 'cycle through node "first"')
    save("reads_itself", model([node("Add", ["x", "y"], ["y"])]), "import", 'cycle through node "n"')
    save("undefined_input", model([node("Add", ["x", "ghost"], ["y"])]), "import", 'reads "ghost"')
    save("undefined_output", model([node("Relu", ["x"], ["z"])]), "import", 'graph output "y"')
    save("duplicate_value", model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]), "import", 'value "y" is provided twice')
    constant = numpy_helper.from_array(numpy.zeros(4, numpy.float32), "c")
    save("duplicate_initializer", model([node("Add", ["x", "c"], ["y"])], constants=[constant, constant]), "import", 'value "c" is provided twice')
    save("duplicate_input", relu(inputs=[value("x", [4]), value("x", [4])]), "import", 'value "x" is provided twice')
    save("overwrites_input", model([node("Neg", ["x"], ["x"]), node("Relu", ["x"], ["y"])]), "import", "cycle")
    save("overwrites_initializer", model([node("Neg", ["x"], ["c"]), node("Relu", ["c"], ["y"])], constants=[constant]), "import", 'value "c" is provided twice')
    save("missing_operand", model([node("Conv", ["x"], ["y"])]), "import", "number of inputs: found 1, supported: 2 to 3")
    save("left_out_operand", model([node("Conv", ["", "x"], ["y"])]), "import", "input 0: found left out")
    save("no_node_outputs", model([node("Relu", ["x"], [])], outputs=[value("x", None)]), "import", "output 0: found left out")
    save("too_many_operands", model([node("Relu", ["x", "x"], ["y"])]), "import", "number of inputs: found 2")


def wrong_types():
    strings = [value("x", [4], TensorProto.STRING)]
    save("string_input", relu(inputs=strings), "import", "graph input element type: found string")
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    save("sequence_input", relu(inputs=[sequence]), "import", "graph input type: found a sequence")
    text = helper.make_tensor("c", TensorProto.STRING, [1], [b"a"])
    save("string_initializer", model([node("Add", ["x", "c"], ["y"])], constants=[text]), "import", 'tensor "c": element type: found string')
    half = numpy_helper.from_array(numpy.zeros(4, numpy.float16), "c")
    save("float16_initializer", model([node("Add", ["x", "c"], ["y"])], constants=[half]), "import", "element type: found float16")
    double = numpy_helper.from_array(numpy.zeros(4, numpy.float64), "c")
    save("double_initializer", model([node("Add", ["x", "c"], ["y"])], constants=[double]), "import", "element type: found double")
    unknown = raw("c", [1], b"\0", kind=77)
    save("unknown_type", model([node("Add", ["x", "c"], ["y"])], constants=[unknown]), "import", "found element type 77")
    bad = model([node("Flatten", ["x"], ["y"], axis=1.5)])
    save("attribute_type_confusion", bad, "import", 'attribute "axis": found 1.5, supported: type int')
    lying = node("Flatten", ["x"], ["y"], axis=1)
    lying.attribute[0].ClearField("type")
    save("attribute_without_type", model([lying]), "import", 'attribute "axis": found type undefined')
    save("attribute_unknown", model([node("Relu", ["x"], ["y"], secret=1)]), "import", 'attribute "secret": found 1')
    repeated = node("Flatten", ["x"], ["y"], axis=1)
    repeated.attribute.append(helper.make_attribute("axis", 0))
    save("attribute_twice", model([repeated]), "import", 'attribute "axis"')
    index = numpy_helper.from_array(numpy.zeros(4, numpy.int64), "c")
    save("adds_integers_to_floats", model([node("Add", ["x", "c"], ["y"])], constants=[index]), "run", "Add")


def wrong_sizes():
    add = [node("Add", ["x", "c"], ["y"])]

    def constant(name, tensor, kind, text):
        save(name, model(add, constants=[tensor]), kind, text)

    constant("dims_overflow", raw("c", [1 << 40, 1 << 40], b"\0\0\0\0"), "import", "fewer than 2^61 elements")
    constant("dims_overflow_to_zero", raw("c", [1 << 32, 1 << 32, 0], b""), "import", "fewer than 2^61 elements")
    constant("dims_negative", raw("c", [-4], b"\0" * 16), "import", "none negative")
    constant("dims_huge", raw("c", [1 << 40], b"\0\0\0\0"), "import", "found 4 bytes")
    constant("raw_too_short", raw("c", [4], b"\0" * 15), "import", "found 15 bytes, expected 16 bytes")
    constant("raw_too_long", raw("c", [4], b"\0" * 17), "import", "found 17 bytes, expected 16 bytes")
    constant("raw_int4_too_long", raw("c", [3], b"\0\0\0", TensorProto.INT4), "import", "expected 2 bytes for 3 elements of int4")
    both = raw("c", [1], b"\0\0\0\0")
    both.float_data.append(1.0)
    constant("raw_and_typed", both, "import", "both raw_data and typed data")
    wrong_field = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1], int32_data=[1])
    constant("typed_in_wrong_field", wrong_field, "import", "found 0 in float_data, 1 elsewhere")
    claim = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1 << 50])
    constant("claims_without_data", claim, "import", "found 0 in float_data")
    beyond = TensorProto(name="c", data_type=TensorProto.INT8, dims=[1], int32_data=[300])
    constant("int8_beyond_range", beyond, "import", "beyond the element type's range")
    part = raw("c", [1], b"\0\0\0\0")
    part.segment.begin = 0
    constant("segment", part, "import", "segment")
    constant("zero_size", raw("c", [0], b""), "run", "Add")
    save("negative_pads", model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[-1, 0, 0, 0])]), "import", 'attribute "pads"')
    save("zero_stride", model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 1])]), "import", 'attribute "strides": found 0')
    save("zero_groups", model([node("Conv", ["x", "x"], ["y"], group=0)], [value("x", [1, 1, 4, 4])]), "import", 'attribute "group": found 0')
    save("repeated_perm", model([node("Transpose", ["x"], ["y"], perm=[0, 0])]), "import", 'attribute "perm": found [0, 0]')
    save("kernel_3d", model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2, 2])]), "import", "spatial axes: found 3")


def explosions():
    def ints(name, values):
        return numpy_helper.from_array(numpy.array(values, numpy.int64), name)

    huge = [1 << 20, 1 << 20]
    save("huge_constant_of_shape", model([node("ConstantOfShape", ["s"], ["y"])], constants=[ints("s", huge)]), "run", "limit")
    overflow = ints("s", [1 << 40, 1 << 40])
    save("overflowing_constant_of_shape", model([node("ConstantOfShape", ["s"], ["y"])], constants=[overflow]), "run", "limit")
    save("negative_constant_of_shape", model([node("ConstantOfShape", ["s"], ["y"])], constants=[ints("s", [-1])]), "run", "ConstantOfShape")
    save("huge_expand", model([node("Expand", ["x", "s"], ["y"])], constants=[ints("s", [1 << 40, 1, 1])]), "run", "limit")
    save("huge_pad", model([node("Pad", ["x", "s"], ["y"])], constants=[ints("s", [0, 1 << 40, 0, 0])]), "run", "limit")
    save("overflowing_pad", model([node("Pad", ["x", "s"], ["y"])], constants=[ints("s", [0, (1 << 63) - 1, 0, (1 << 63) - 1])]), "run", "Pad")
    images = [value("x", ["N", 1, 4, 4])]
    save("overflowing_pool_pads", model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[(1 << 63) - 1] * 4)], images), "run", "MaxPool")
    pool = node("AveragePool", ["x"], ["y"], kernel_shape=[1 << 62, 1 << 62], pads=[1 << 62] * 4, count_include_pad=1)
    save("overflowing_kernel", model([pool], images), "run", "AveragePool")
    dilated = node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], dilations=[1 << 62, 1 << 62])
    save("overflowing_dilations", model([dilated], images), "run", "MaxPool")
    save("gather_out_of_range", model([node("Gather", ["x", "s"], ["y"])], constants=[ints("s", [7])]), "run", "Gather")
    save("reshape_mismatch", model([node("Reshape", ["x", "s"], ["y"])], constants=[ints("s", [3, -1])]), "run", "Reshape")
    save("reshape_two_open", model([node("Reshape", ["x", "s"], ["y"])], constants=[ints("s", [-1, -1])]), "run", "Reshape")
    save("axis_out_of_range", model([node("Softmax", ["x"], ["y"], axis=9)]), "run", "Softmax")
    save("axis_most_negative", model([node("Concat", ["x", "x"], ["y"], axis=-(1 << 63))]), "run", "Concat")
    most_negative = ints("s", [-(1 << 63)])
    save("slice_extremes", model([node("Slice", ["x", "s", "s", "s"], ["y"])], constants=[most_negative]), "run", "Slice")
    save("squeeze_most_negative", model([node("Squeeze", ["x", "s"], ["y"])], constants=[most_negative]), "run", "Squeeze")
    save("unsqueeze_most_negative", model([node("Unsqueeze", ["x", "s"], ["y"])], constants=[most_negative]), "run", "Unsqueeze")
    weight = raw("w", [1, 9, 1, 1], b"\0" * 36)
    save("conv_channels_mismatch", model([node("Conv", ["x", "w"], ["y"])], images, constants=[weight]), "run", "Conv")
    empty = raw("w", [0, 1, 3, 3], b"")
    save("conv_without_filters", model([node("Conv", ["x", "w"], ["y"])], images, constants=[empty]), "run", "Conv")
    doubling = [helper.make_node("Concat", [f"v{i}"] * 2, [f"v{i + 1}"], name=f"n{i}", axis=0) for i in range(60)]
    bomb = model(doubling, [value("v0", [4])], [value("v60", None)])
    save("doubling", bomb, "run", "limit")


def external():
    def pointing(name, text, kind="import", **entries):
        tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        for key, entry in entries.items():
            tensor.external_data.add(key=key, value=entry)
        save(name, model([node("Add", ["x", "c"], ["y"])], constants=[tensor]), kind, text)

    (MODELS / "sixteen.bin").write_bytes(bytes(16))
    (HERE / "outside.bin").write_bytes(bytes(16))
    link = MODELS / "link.bin"
    link.symlink_to("../outside.bin")
    inside = "a file inside the model's folder"
    pointing("external_parent", inside, location="../outside.bin")
    pointing("external_hidden_parent", inside, location="./../models/../outside.bin")
    pointing("external_absolute", inside, location="/etc/passwd")
    pointing("external_backslash", inside, location="..\\outside.bin")
    pointing("external_link", inside, location="link.bin")
    pointing("external_inside", "data may lie beside the model", "fine", location="sixteen.bin", offset="0", length="16")
    shared = []
    for i in range(9):
        tensor = TensorProto(name=f"c{i}", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="sixteen.bin")
        shared.append(tensor)
    save("external_shared_without_end", relu_and(shared), "import", "80 bytes from files of 16, expected at most 4 times")
    pointing("external_nothing", inside)
    pointing("external_folder", "external data", location=".")
    pointing("external_absent", "external data", location="absent.bin")
    pointing("external_beyond_end", "at most the file's 16 bytes", location="sixteen.bin", offset="4")
    pointing("external_offset_overflow", "at most the file's 16 bytes", location="sixteen.bin", offset=str((1 << 64) - 1))
    pointing("external_negative_offset", 'found "-1", expected a number of bytes', location="sixteen.bin", offset="-1")
    pointing("external_wrong_length", "found length 8", location="sixteen.bin", length="8")
    pointing("external_unknown_key", 'found key "command"', location="sixteen.bin", command="rm")


def fine():
    weights = numpy.array([numpy.nan, numpy.inf, -numpy.inf, 1], numpy.float32)
    constant = numpy_helper.from_array(weights, "c")
    odd = model([node("Add", ["x", "c"], ["y"])], constants=[constant])
    save("nan_weights", odd, "fine", "a float model may hold them; quantizing it must refuse")
    doubtful = numpy_helper.from_array(numpy.zeros((0, 4), numpy.float32), "c")
    joined = model([node("Concat", ["x", "c"], ["y"], axis=0)], constants=[doubtful])
    save("empty_part", joined, "fine", "nothing joined to something is something")
    late = [helper.make_node("Relu", ["a"], ["y"], name="second"), helper.make_node("Neg", ["x"], ["a"], name="first")]
    save("unsorted", model(late), "fine", "there is an order in which it runs")


def containers():
    """Compressed models: 89 LBZ, version, CRC-32, two lengths, a deflated ONNX file, streams of codes."""
    shutil.rmtree(CONTAINERS, ignore_errors=True)
    CONTAINERS.mkdir()
    codes = raw("c", [0, 4], b"", TensorProto.UINT4)
    inside = model([node("Cast", ["c"], ["y"], to=TensorProto.FLOAT)], constants=[codes], opset=21).SerializeToString()
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = deflater.compress(inside) + deflater.flush()

    def constant(count, symbol=3):
        """Codes of one symbol, which has all 65536 parts of the frequency: any number of them in a few bytes."""
        return struct.pack("<BI", 0, count) + bytes([symbol + 1]) + bytes(symbol) + b"\x80\x80\x04" + b"\0"

    def stream(index=0, rows=16, data=constant(64)):
        return struct.pack("<III", index, rows, len(data)) + data

    def container(name, text, magic=b"\x89LBZ", version=1, claimed=len(inside), body=deflated, count=1, streams=stream()):
        head = magic + struct.pack("<BI", version, 0) + struct.pack("<II", claimed, len(body))
        (CONTAINERS / f"{name}.lbz").write_bytes(head + body + struct.pack("<I", count) + streams)
        CONTAINER_ROWS.append((name, text))

    container("wrong_magic", "not an ONNX model", magic=b"\x88LBZ")
    container("version_9", "version: found 9, expected 1", version=9)
    container("claims_gigabytes", "codes: found 4294967295 bytes from", claimed=(1 << 32) - 1)
    container("inflates_beyond_its_claim", "found another length", claimed=len(inside) - 1)
    container("no_deflated_bytes", "the ONNX file without codes: found", body=b"\xff" * len(deflated))
    container("no_onnx", "opset: found none", claimed=0, body=zlib.compress(b"")[2:-4])
    container("claims_streams", "an index: found 0 bytes left", count=(1 << 32) - 1, streams=b"")
    container("index_beyond", "index of an initializer: found 7", streams=stream(index=7))
    container("index_twice", "index of an initializer: found 0", count=2, streams=stream() * 2)
    container("codes_beyond_bytes", "at most 1024 codes a byte", streams=stream(rows=1 << 20, data=constant(1 << 22)))
    container("codes_overflow", "at most 1024 codes a byte", streams=stream(rows=(1 << 32) - 1))
    container("fewer_codes", "the number of codes: found 60", streams=stream(data=constant(60)))
    container("more_codes", "no more than the caller's limit", streams=stream(data=constant(68)))
    container("code_beyond_its_type", "a code: found one beyond its type", streams=stream(data=constant(64, 16)))
    container("cut_stream", "a stream: found", streams=stream()[:-2])
    container("bytes_behind", "3 bytes more", streams=stream() + b"abc")
    container("wrong_checksum", "checksum: found another")
    lines = ["# Made by make.py: for each container, a part of the error of reading it."]
    lines += [f"{name} = '''{text}'''" for name, text in sorted(CONTAINER_ROWS)]
    (HERE / "containers.toml").write_text("\n".join(lines) + "\n")



def main():
    containers()
    shutil.rmtree(MODELS, ignore_errors=True)
    MODELS.mkdir()
    for make in (broken_protobuf, wrong_models, wrong_graphs, wrong_types, wrong_sizes, explosions, external, fine):
        make()
    lines = ["# Made by make.py: for each model, when it must fail and a part of the error, or why it must not.\n"]
    for name, kind, text in sorted(ROWS):
        lines.append(f"[{name}]\n{kind} = '''{text}'''\n")
    (HERE / "expected.toml").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
