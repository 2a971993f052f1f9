"""Values that memory cannot hold, made by small models."""

import numpy as np
from onnx import TensorProto, helper

from . import DTYPES, case, extent, floats, ints, kind, large, node, one

UNARY = [
    "Cos",
    "Exp",
    "Relu",
    "Sigmoid",
    "Erf",
    "Gelu",
    "Neg",
    "Abs",
    "Identity",
    "Softmax",
    "Log",
    "Round",
    "Hardmax",
    "IsNaN",
]


def filled(shape, result="c"):
    """A node that makes a constant of this shape, and the initializer that it needs."""
    return node("ConstantOfShape", f"{result}_shape", result), ints(f"{result}_shape", shape)


@kind
def unary_of_a_huge_constant(rng):
    make, shape = filled([extent(rng)] if rng.random() < 0.7 else [large(rng) // 1000, 1000])
    return case([make, node(one(rng, UNARY), "c", "y")], initializers=[shape])


@kind
def expand(rng):
    shape = [extent(rng), 4] if rng.random() < 0.7 else [2] * int(rng.integers(25, 60))
    return case(
        [node("Expand", "x s", "e"), node(one(rng, UNARY), "e", "y")], [("x", [1])], initializers=[ints("s", shape)]
    )


@kind
def expand_by_an_input(rng):
    nodes = [node("Expand", "x s", "e"), node(one(rng, UNARY), "e", "y")]
    feeds = {"x": np.ones([1, 4], np.float32), "s": np.array([extent(rng), 4], np.int64)}
    return case(nodes, [("x", [1, 4]), ("s", [2], TensorProto.INT64)], feeds=feeds)


@kind
def one_hot(rng):
    depth = ints("d", extent(rng))
    nodes = [node("OneHot", "i d v", "y", axis=one(rng, [-1, 0, 1, 7]))]
    return case(nodes, [("i", [100], TensorProto.INT64)], initializers=[depth, floats("v", [0, 1])])


@kind
def tile(rng):
    nodes = [node("Tile", "x r", "t"), node(one(rng, UNARY), "t", "y")]
    return case(nodes, [("x", [1, 4])], initializers=[ints("r", [extent(rng), one(rng, [1, 1000])])])


@kind
def pad(rng):
    pads = [one(rng, [0, extent(rng)]) for _ in range(4)]
    nodes = [node("Pad", "x p", "y", mode=one(rng, ["constant", "reflect", "edge", "wrap"]))]
    return case(nodes, [("x", [3, 4])], initializers=[ints("p", pads)])


@kind
def range_(rng):
    limits = [ints("a", 0), ints("b", extent(rng)), ints("c", one(rng, [1, -1, 0, 1]))]
    return case([node("Range", "a b c", "y")], initializers=limits, dtype=TensorProto.INT64)


@kind
def range_of_floats(rng):
    limits = [floats("a", 0), floats("b", one(rng, [1e9, 1e30, np.inf, np.nan])), floats("c", one(rng, [1, 1e-30, 0]))]
    return case([node("Range", "a b c", "y")], initializers=limits)


@kind
def outer_product(rng):
    n = int(10 ** rng.uniform(4, 6))
    op = one(rng, ["Add", "Mul", "MatMul", "Greater", "Pow", "Where", "Max"])
    nodes = [node("Greater", "a b", "m"), node("Where", "m a b", "y")] if op == "Where" else [node(op, "a b", "y")]
    if rng.random() < 0.5:
        nodes[-1].output[0] = "o"
        nodes.append(node("Cast", "o", "f", to=TensorProto.FLOAT))
        nodes.append(node("ReduceMax", "f", "y", keepdims=0))
    return case(nodes, [("a", [n, 1]), ("b", [1, n])], dtype=TensorProto.BOOL if op == "Greater" else TensorProto.FLOAT)


@kind
def outer_products_of_einsum(rng):
    n, count = one(rng, [100, 1000, 10_000]), int(rng.integers(2, 12))
    letters = "abcdefghijklmnop"[:count]
    equation = ",".join(letters) + "->" + (letters if rng.random() < 0.6 else "")
    names = [f"x{i}" for i in range(count)]
    return case([node("Einsum", names, "y", equation=equation)], [(name, [n]) for name in names])


@kind
def resize(rng):
    mode = one(rng, ["nearest", "linear", "cubic"])
    if rng.random() < 0.5:
        sizes = ints("s", [1, 1, extent(rng), one(rng, [1, 100, extent(rng)])])
        return case([node("Resize", ["x", "", "", "s"], "y", mode=mode)], [("x", [1, 1, 4, 4])], initializers=[sizes])
    factor = one(rng, [1e3, 1e5, 1e9, 1e30, float("inf"), float("nan"), -1.0, 0.0, 1e-30])
    scales = floats("s", [1, 1, factor, one(rng, [1.0, factor])])
    return case([node("Resize", ["x", "", "s"], "y", mode=mode)], [("x", [1, 1, 4, 4])], initializers=[scales])


@kind
def eye_like(rng):
    make, shape = filled([one(rng, [10**4, 10**5, 10**6]), one(rng, [3, 10**5])])
    return case([make, node("EyeLike", "c", "y", k=one(rng, [0, 1, -1, 2**62, -(2**63)]))], initializers=[shape])


@kind
def window(rng):
    op = one(rng, ["HannWindow", "HammingWindow", "BlackmanWindow"])
    nodes = [node(op, "n", "y", output_datatype=one(rng, [1, 11, 10, 7, 8]))]
    return case(nodes, initializers=[ints("n", extent(rng))])


@kind
def mel_weights(rng):
    values = [extent(rng) if rng.random() < 0.4 else 1000 for _ in range(3)]
    edges = [floats("l", one(rng, [0, 100, -1, np.nan])), floats("h", one(rng, [4000, 1e30, 0, np.inf]))]
    names = [ints(n, v) for n, v in zip("bds", values, strict=True)]
    return case([node("MelWeightMatrix", "b d s l h", "y")], initializers=names + edges)


@kind
def fourier(rng):
    if rng.random() < 0.5:
        length = ints("n", one(rng, [extent(rng), 1_000_003, 15_485_863, 2**20]))
        return case(
            [node("DFT", "x n", "y", onesided=int(rng.integers(2)))],
            [("x", [1, 64, 1])],
            initializers=[length],
            opset=20,
        )
    step, length = ints("s", one(rng, [1, 0, -1, extent(rng)])), ints("l", one(rng, [64, 1009, extent(rng)]))
    nodes = [node("STFT", ["x", "s", "", "l"], "y", onesided=int(rng.integers(2)))]
    return case(nodes, [("x", [1, 10**6, 1])], initializers=[step, length])


@kind
def gather(rng):
    make, shape = filled([large(rng) // 10_000])
    nodes = [make, node("Cast", "c", "i", to=TensorProto.INT64), node("Gather", "x i", "y", axis=0)]
    return case(nodes, [("x", [2, 10_000])], initializers=[shape])


@kind
def gather_nd(rng):
    make, shape = filled([large(rng) // 10_000, 1])
    nodes = [make, node("Cast", "c", "i", to=TensorProto.INT64), node("GatherND", "x i", "y")]
    return case(nodes, [("x", [2, 10_000])], initializers=[shape])


@kind
def chain_that_doubles(rng):
    op, steps = one(rng, ["Concat", "Tile", "Pad", "Expand", "Kron"]), int(rng.integers(20, 70))
    make = {
        "Concat": lambda a, b: [node("Concat", [a, a], b, axis=0)],
        "Tile": lambda a, b: [node("Tile", [a, "two"], b)],
        "Pad": lambda a, b: [node("Concat", [a, a, a], b, axis=0)],
        "Expand": lambda a, b: [node("Unsqueeze", [a, "zero"], b + "u"), node("Expand", [b + "u", "pair"], b)],
        "Kron": lambda a, b: [node("Add", [a, a], b + "s"), node("Concat", [a, b + "s"], b, axis=0)],
    }[op]
    nodes = [n for i in range(steps) for n in make(f"x{i}", f"x{i + 1}")]
    pair = ints("pair", [2] + [1] * steps) if op == "Expand" else ints("pair", [2])
    constants = [ints("two", [2]), ints("zero", [0]), pair]
    nodes.append(
        node("ReduceMax", f"x{steps}", "y", keepdims=0) if rng.random() < 0.5 else node("Cos", f"x{steps}", "y")
    )
    return case(nodes, [("x0", [16])], initializers=constants)


@kind
def strings_that_double(rng):
    steps = int(rng.integers(20, 60))
    nodes = [node("StringConcat", [f"s{i}", f"s{i}"], f"s{i + 1}") for i in range(steps)]
    text = helper.make_tensor("s0", TensorProto.STRING, [4], [b"abcdefgh"] * 4)
    if rng.random() < 0.5:
        nodes.append(node("StringSplit", f"s{steps}", "y n", delimiter=one(rng, ["a", "", "abc"])))
    else:
        nodes.append(node("Identity", f"s{steps}", "y"))
    return case(nodes, initializers=[text], dtype=TensorProto.STRING)


@kind
def string_split(rng):
    n = int(10 ** rng.uniform(4, 6))
    text = TensorProto(
        name="s", data_type=TensorProto.STRING, dims=[n], string_data=[b"a"] * (n - 1) + [b"a " * (n // 2)]
    )
    nodes = [node("StringSplit", "s", "y n", delimiter=one(rng, [" ", ""]), maxsplit=one(rng, [2**62, n, -1]))]
    return case(nodes, initializers=[text], dtype=TensorProto.STRING)


@kind
def random_of_a_shape(rng):
    op = one(rng, ["RandomNormal", "RandomUniform", "Multinomial", "Bernoulli"])
    if op == "Multinomial":
        return case([node(op, "x", "y", sample_size=extent(rng))], [("x", [2, 8])], dtype=TensorProto.INT32)
    if op == "Bernoulli":
        make, shape = filled([large(rng)])
        return case([make, node(op, "c", "y")], initializers=[shape])
    return case([node(op, "", "y", shape=[extent(rng), one(rng, [1, 100])])])


@kind
def reduction_of_a_huge_constant(rng):
    make, shape = filled([large(rng) // 1000, 1000])
    op = one(
        rng,
        ["ReduceSum", "ReduceLogSumExp", "CumSum", "ArgMax", "NonZero", "Unique", "TopK", "Compress", "Size", "Shape"],
    )
    use = {
        "ReduceSum": node("ReduceSum", "c", "y"),
        "ReduceLogSumExp": node("ReduceLogSumExp", "c", "y"),
        "CumSum": node("CumSum", "c one", "y"),
        "ArgMax": node("ArgMax", "c", "y"),
        "TopK": node("TopK", "c k", "y i"),
        "Compress": node("Compress", "c m", "y"),
        "Unique": node("Unique", "c", "y"),
    }.get(op) or node(op, "c", "y")
    mask = helper.make_tensor("m", TensorProto.BOOL, [3], [True, False, True])
    integer = op in ("ArgMax", "NonZero", "Size", "Shape")
    constants = [shape, ints("one", 1), ints("k", [one(rng, [1, 1000, 10**9, -1])]), mask]
    return case([make, use], initializers=constants, dtype=TensorProto.INT64 if integer else TensorProto.FLOAT)


@kind
def scatter(rng):
    make, shape = filled([large(rng)])
    op = one(rng, ["ScatterElements", "ScatterND", "TensorScatter"])
    where = [[one(rng, [0, 5, -1, 2**40, -(2**63)])]] if op == "ScatterND" else [one(rng, [0, 5, -1, 2**40, -(2**63)])]
    return case([make, node(op, "c i u", "y")], initializers=[shape, ints("i", where), floats("u", [1.0])])


@kind
def top_k(rng):
    nodes = [node("TopK", "x k", "y i", axis=one(rng, [-1, 0, 5, -(2**63)]))]
    return case(nodes, [("x", [10, 100])], initializers=[ints("k", [extent(rng)])])


@kind
def huge_inputs(rng):
    n = one(rng, [10**8, 10**9, 2**31, 2**40, 2**62])
    nodes = [node(one(rng, UNARY), "x", "a"), node("Add", "a x", "y")]
    return case(nodes, [("x", [n], one(rng, DTYPES[:4]))])


@kind
def huge_open_inputs(rng):
    nodes = [node("MatMul", "x t", "y"), node("Transpose", "x", "t")][::-1]
    rows = one(rng, [10_000, 60_000, 200_000])
    return case(nodes, [("x", ["n", 2])], feeds={"x": np.ones([rows, 2], np.float32)})


@kind
def sequences(rng):
    make, shape = filled([large(rng) // 100])
    op = one(rng, ["SplitToSequence", "SequenceInsert", "ConcatFromSequence"])
    if op == "SplitToSequence":
        nodes = [make, node(op, "c", "s", axis=0, keepdims=int(rng.integers(2))), node("SequenceLength", "s", "y")]
    else:
        nodes = [make, node("SequenceConstruct", ["c"] * one(rng, [10, 1000]), "s")]
        nodes.append(node("ConcatFromSequence", "s", "y", axis=0, new_axis=int(rng.integers(2))))
    return case(nodes, initializers=[shape])


@kind
def indices_out_of_range(rng):
    op = one(rng, ["Gather", "GatherElements", "Slice", "ScatterElements", "Trilu", "SequenceAt", "Split"])
    at = ints("i", [one(rng, [10, -11, 2**31, 2**62, -(2**63)])])
    constants, inputs = [at], [("x", [10])]
    match op:
        case "Slice":
            constants += [ints("e", [one(rng, [2**63 - 1, -(2**63), 5])]), ints("a", [0])]
            constants += [ints("t", [one(rng, [0, -1, 2**63 - 1, -(2**63)])])]
            nodes = [node(op, "x i e a t", "y")]
        case "ScatterElements":
            constants.append(floats("u", [1]))
            nodes = [node(op, "x i u", "y")]
        case "Trilu":
            constants[0] = ints("i", one(rng, [2**62, -(2**63), 2**63 - 1]))
            nodes, inputs = [node(op, "x i", "y", upper=int(rng.integers(2)))], [("x", [10, 10])]
        case "SequenceAt":
            nodes = [node("SequenceConstruct", "x x", "s"), node(op, "s i", "y")]
        case "Split":
            nodes = [node(op, "x i", "y z", axis=0)]
        case _:
            nodes = [node(op, "x i", "y")]
    return case(nodes, inputs, initializers=constants)


@kind
def integers_that_overflow(rng):
    op = one(rng, ["Div", "Mod", "Pow", "BitShift", "Mul", "Sub", "Abs", "Neg"])
    attributes = {"direction": one(rng, ["LEFT", "RIGHT"])} if op == "BitShift" else {}
    dtype = one(rng, [np.int8, np.int32, np.int64, np.uint8, np.uint64]) if op != "BitShift" else np.uint64
    info = np.iinfo(dtype)
    a = np.array([info.min, info.max, info.min, 0], dtype)
    b = np.array([one(rng, [0, 1]), 0, info.max, info.min if info.min else 200], dtype)
    if info.min:
        b[0] = -1
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    if rng.random() < 0.5:
        a, b = a[:1], b[:1]
    names = "a" if op in ("Abs", "Neg") else "a b"
    inputs = [(n, [len(a)], code) for n in names.split(" ")]
    feeds = {"a": a, "b": b} if len(names) > 1 else {"a": a}
    return case([node(op, names, "y", **attributes)], inputs, feeds=feeds, dtype=code)


@kind
def casts_of_extremes(rng):
    x = np.array([np.nan, np.inf, -np.inf, 1e38, -1e38, -0.0, 1e-45], np.float32)
    to = one(rng, [*DTYPES, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1, TensorProto.COMPLEX64, 77, -1])
    if rng.random() < 0.5:
        return case([node("Cast", "x", "y", to=to)], [("x", [7])], feeds={"x": x}, dtype=abs(to) % 23)
    return case([node("Cast", "c", "y", to=to)], initializers=[floats("c", x)], dtype=abs(to) % 23)


@kind
def reshapes(rng):
    shape = [one(rng, [-1, -2, 0, 3, extent(rng)]) for _ in range(one(rng, [1, 2, 4, 1000, 100_000]))]
    return case(
        [node("Reshape", "x s", "y", allowzero=int(rng.integers(2)))], [("x", [3, 4])], initializers=[ints("s", shape)]
    )


@kind
def many_axes(rng):
    rank = one(rng, [9, 65, 1000, 20_000])
    op = one(rng, ["Transpose", "Unsqueeze", "ReduceSum", "Squeeze", "Add"])
    ones, axes = [1] * rank, ints("a", list(range(rank)))
    match op:
        case "Transpose":
            return case([node(op, "x", "y", perm=list(reversed(range(rank))))], [("x", ones)])
        case "Unsqueeze":
            return case([node(op, "x a", "y")], [("x", [3])], initializers=[axes])
        case "Add":
            return case([node(op, "x x", "y")], [("x", ones)])
        case _:
            return case([node(op, "x a", "y")], [("x", ones)], initializers=[axes])
