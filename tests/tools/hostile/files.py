"""What is wrong in the file: its bytes, its tensors, the files beside it, and the inputs."""

import io
import pathlib
import zipfile

import numpy as np
from onnx import TensorProto, helper

from . import DTYPES, EDGES, Case, case, extent, floats, ints, kind, node, one, proto, value

TESTDATA = pathlib.Path(__file__).parents[3] / "testdata"
MODELS = sorted(p for p in TESTDATA.glob("*.onnx") if p.stat().st_size < 2_000_000)
WIRE = {"varint": 0, "bytes": 2}


def varint(n):
    """A number as protobuf has it."""
    out = bytearray()
    n &= 2**64 - 1
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def message(number, content):
    """A field that holds a message or bytes."""
    return varint(number << 3 | WIRE["bytes"]) + varint(len(content)) + content


def small(rng):
    """A model of a few ops."""
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("Add", "b c", "y")]
    constants = [floats("w", rng.standard_normal([4, 4])), floats("c", rng.standard_normal([4]))]
    return proto(nodes, [("x", [3, 4])], initializers=constants)


@kind
def bytes_changed(rng):
    data = bytearray(one(rng, MODELS).read_bytes() if rng.random() < 0.6 else small(rng).SerializeToString())
    for _ in range(int(rng.integers(1, 20))):
        # Mostly not in the weights.
        reach = len(data) if rng.random() < 0.3 else min(len(data), 2000)
        data[int(rng.integers(reach))] = int(rng.integers(256))
    return Case(bytes(data))


@kind
def cut_off(rng):
    data = one(rng, MODELS).read_bytes()
    return Case(data[: int(rng.integers(len(data)))])


@kind
def joined(rng):
    a, b = (one(rng, MODELS).read_bytes() for _ in range(2))
    return Case(
        one(rng, [a + b, b[: len(b) // 2] + a, a[len(a) // 3 :], b"", rng.bytes(1000), b"optc" + a, b"\0" * 100_000])
    )


@kind
def many_empty_messages(rng):
    """Two bytes each in the file, and hundreds in memory."""
    n = one(rng, [10**5, 10**6, 5 * 10**6])
    of_graph = {
        "node": 1,
        "initializer": 5,
        "input": 11,
        "output": 12,
        "value_info": 13,
        "annotation": 14,
        "sparse": 15,
    }
    of_node = {"input": 1, "output": 2, "attribute": 5, "metadata": 9}
    of_model = {"opset": 8, "metadata": 14, "training": 20, "function": 25}
    where = int(rng.integers(3))
    if where == 0:
        number = one(rng, list(of_graph.values()))
        data = message(7, message(number, b"") * n)
    elif where == 1:
        data = message(7, message(1, message(one(rng, list(of_node.values())), b"") * n))
    else:
        data = message(one(rng, list(of_model.values())), b"") * n
    head = varint(1 << 3) + varint(10) + message(8, varint(2 << 3) + varint(21))
    return Case(head + data)


@kind
def many_numbers(rng):
    """Fields of a tensor or an attribute with very many entries: one byte each in the file."""
    n = one(rng, [10**6, 2 * 10**7])
    if rng.random() < 0.5:
        tensor = (
            varint(2 << 3) + varint(one(rng, [7, 1, 6, 2])) + message(8, b"c") + message(one(rng, [1, 5, 7]), b"\1" * n)
        )
        graph = message(5, tensor)
    else:
        attribute = message(1, b"axes") + varint(20 << 3) + varint(7) + message(8, b"\1" * n)
        graph = message(1, message(1, b"x") + message(2, b"y") + message(4, b"Squeeze") + message(5, attribute))
    return Case(varint(1 << 3) + varint(10) + message(8, varint(2 << 3) + varint(21)) + message(7, graph))


@kind
def strings_of_nothing(rng):
    n = one(rng, [10**5, 3 * 10**6])
    tensor = varint(2 << 3) + varint(8) + varint(1 << 3) + varint(n) + message(8, b"c") + message(6, b"") * n
    use = message(1, message(1, b"c") + message(2, b"y") + message(4, b"Identity"))
    out = message(12, message(1, b"y") + message(2, message(1, varint(1 << 3) + varint(8))))
    graph = use + message(5, tensor) + out
    return Case(varint(1 << 3) + varint(10) + message(8, varint(2 << 3) + varint(21)) + message(7, graph))


@kind
def deep_messages(rng):
    depth = one(rng, [50, 95, 101, 10_000, 100_000])
    if rng.random() < 0.5:
        # A sequence of a sequence of ...
        inner = message(1, varint(1 << 3) + varint(1))
        for _ in range(min(depth, 10_000)):
            inner = message(4, message(1, inner))
        graph = message(11, message(1, b"x") + message(2, inner))
    else:
        # A graph in an attribute of a node in a graph ...
        graph = b""
        for _ in range(min(depth, 10_000)):
            graph = message(
                1,
                message(4, b"If")
                + message(5, message(1, b"then_branch") + varint(20 << 3) + varint(5) + message(6, graph)),
            )
    return Case(varint(1 << 3) + varint(10) + message(8, varint(2 << 3) + varint(21)) + message(7, graph))


@kind
def dims_of_a_constant(rng):
    tensor = floats("c", np.ones(4))
    del tensor.dims[:]
    tensor.dims.extend(
        one(rng, [[extent(rng)], [2**32, 2**32], [-1, -4], [0, 2**62, 2**62], [1] * 5000 + [4], [4, 0], [3], [2, 2, 2]])
    )
    if rng.random() < 0.3:
        tensor.float_data.extend([1.0] * 4)
    nodes = [node(one(rng, ["Identity", "Cos"]), "c", "a"), node("Add", "x a", "y")]
    return case(nodes, [("x", [4])], initializers=[tensor])


@kind
def declared_shapes(rng):
    shape = one(rng, [[extent(rng)], [-1], ["n", "n"], ["", ""], [2**62, 2**62, 2**62], [0], [3] * 2000, ["n" * 10**6]])
    model = proto([node("Cos", "x", "a"), node("Add", "a a", "y")], [("x", shape)])
    model.graph.value_info.append(value("a", one(rng, [[7], [-3], [2**40], None])))
    return Case(model.SerializeToString())


@kind
def constant_of_the_wrong_dtype(rng):
    tensor = floats("c", np.ones(8))
    tensor.data_type = one(rng, [*DTYPES, 0, 14, 15, 17, 23, 24, 99, 2**31 - 1, -1])
    if rng.random() < 0.3:
        tensor.ClearField("raw_data")
        tensor.int32_data.extend([one(rng, [0, 255, 2**31 - 1, -1])] * one(rng, [8, 4, 7]))
    nodes = [node("Identity", "c", "y")]
    return case(nodes, initializers=[tensor], dtype=one(rng, DTYPES))


@kind
def inputs_of_the_wrong_dtype(rng):
    op = one(
        rng,
        [
            "MatMul",
            "Conv",
            "Add",
            "Relu",
            "Gather",
            "Softmax",
            "Concat",
            "Where",
            "LSTM",
            "MatMulInteger",
            "QLinearMatMul",
            "And",
        ],
    )
    count = {"Relu": 1, "Softmax": 1, "Where": 3, "LSTM": 3, "QLinearMatMul": 8}.get(op, 2)
    names = [f"x{i}" for i in range(count)]
    shapes = [one(rng, [[4, 4], [1, 4, 4, 4], [], [0], [1]]) for _ in names]
    attributes = {"axis": 0} if op == "Concat" else {}
    inputs = [(n, s, one(rng, DTYPES)) for n, s in zip(names, shapes, strict=True)]
    return case([node(op, names, "y", **attributes)], inputs, dtype=one(rng, DTYPES))


@kind
def external_data(rng):
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=one(rng, [[4, 4], [2**20, 2**10], [2**31, 2**31], [-1]])
    )
    tensor.data_location = TensorProto.EXTERNAL
    location = one(
        rng, ["w.bin", "w.bin", "w.bin", "none.bin", "../w.bin", "/etc/hostname", ".", "", "a\0b", "model.onnx"]
    )
    entries = {
        "location": location,
        "offset": str(one(rng, [0, 0, 8, *EDGES])),
        "length": str(one(rng, [64, 64, 63, *EDGES])),
    }
    if rng.random() < 0.3:
        entries.pop(one(rng, list(entries)))
    if rng.random() < 0.2:
        entries["length"] = one(rng, ["x", "", "1e9", "9" * 40])
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    nodes = [node("MatMul", "x w", "y")]
    return case(nodes, [("x", [3, 4])], initializers=[tensor], files={"w.bin": b"\1" * one(rng, [64, 63, 0, 1000])})


@kind
def sparse_constant(rng):
    dims = one(rng, [[4, 4], [extent(rng)], [2**32, 2**32], [-4, 4], [10**6, 10**6]])
    count = one(rng, [1, 3, 0])
    values = floats("c", np.ones(count))
    at = ints("i", [one(rng, [0, 5, 15, 16, -1, 2**62]) for _ in range(one(rng, [count, count + 1]))])
    if rng.random() < 0.3:
        at = ints("i", [[one(rng, [0, 3, 4, -1]), one(rng, [0, 3, 4, 2**40])] for _ in range(count)])
    model = proto([node("Cos", "c", "y")])
    sparse = model.graph.sparse_initializer.add(dims=dims)
    sparse.values.CopyFrom(values)
    sparse.indices.CopyFrom(at)
    return Case(model.SerializeToString())


@kind
def attributes_of_the_wrong_kind(rng):
    model = proto([node("Transpose", "x", "a", perm=[1, 0]), node("Softmax", "a", "y", axis=1)], [("x", [3, 4])])
    attribute = one(rng, model.graph.node).attribute[0]
    match int(rng.integers(5)):
        case 0:
            attribute.type = int(rng.integers(0, 16))
        case 1:
            attribute.ints.extend([one(rng, EDGES)] * one(rng, [1, 2, 10**6]))
        case 2:
            attribute.floats.extend([float("nan")] * 3)
            attribute.type = 6
        case 3:
            attribute.name = one(rng, ["", "x" * 10**6, "axis", "perm"])
        case _:
            attribute.ref_attr_name = "nothing"
    return Case(model.SerializeToString())


@kind
def versions(rng):
    model = small(rng)
    if rng.random() < 0.5:
        model.ir_version = one(rng, [0, 1, 99, -1, 2**62])
    del model.opset_import[:]
    for _ in range(one(rng, [0, 1, 2])):
        model.opset_import.append(
            helper.make_opsetid(one(rng, ["", "ai.onnx", "x"]), one(rng, [0, -1, 1, 13, 99, 2**62]))
        )
    return Case(model.SerializeToString())


@kind
def odd_names(rng):
    model = small(rng)
    name = one(rng, ["", "x" * 10**6, "%0", '"', "\n}", "\u202e", "../../x", "\0", "@main(%x: tensor<1xf32>)"])
    for n in model.graph.node:
        n.name = name
    model.graph.name = name
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = name or "a"
    data = model.SerializeToString()
    return Case(data.replace(b"Relu", b"Re\xff\xfe") if rng.random() < 0.2 else data)


@kind
def zip_bomb(rng):
    shape = one(rng, [(3, 4), (10**9,), (2**40,), (-1,), (2**62, 4)])
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    array += bytes(one(rng, [48, 48, 10**8, 10**9]))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        zipped.writestr(one(rng, ["x.npy", "other.npy"]), array)
        if rng.random() < 0.5:
            zipped.writestr("more.npy", array)
    return Case(small(rng).SerializeToString(), file.getvalue())


@kind
def inputs_that_do_not_fit(rng):
    arrays = one(rng, [
        {}, {"x": np.ones([3, 4])}, {"x": np.ones([4, 3], np.float32)}, {"z": np.ones(1)},
        {"x": np.ones([], np.complex64)},
        {"x": np.array(["a"])}, {"x": np.ones([0, 4], np.float32)}, {"x": np.ones([3, 4], ">f4")},
        {"x": np.array([{}], object)},
    ])  # fmt: skip
    file = io.BytesIO()
    np.savez(file, **arrays)
    data = bytearray(file.getvalue())
    if rng.random() < 0.4:
        for _ in range(5):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return Case(small(rng).SerializeToString(), bytes(data))
