"""Ops with hostile attributes: windows, recurrent networks, attention, quantization, pictures."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from . import EDGES, FLOATS, case, extent, floats, ints, kind, node, one


def drawn(rng, usual):
    """The usual value, or a hostile one."""
    return usual if rng.random() < 0.6 else one(rng, [*EDGES, extent(rng), 1000, 10**6, 10**9])


def windows(rng, axes=2):
    """Attributes of a window."""
    attributes = {"strides": [drawn(rng, 1) for _ in range(axes)], "dilations": [drawn(rng, 1) for _ in range(axes)]}
    if rng.random() < 0.5:
        attributes["pads"] = [drawn(rng, 1) for _ in range(2 * axes)]
    else:
        attributes["auto_pad"] = one(rng, ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "NONSENSE"])
    if rng.random() < 0.2:
        attributes["strides"] *= one(rng, [2, 1000])
    return attributes


@kind
def convolution(rng):
    op = one(rng, ["Conv", "Conv", "ConvTranspose"])
    attributes = windows(rng) | {"group": drawn(rng, 1)}
    if rng.random() < 0.3:
        attributes["kernel_shape"] = [drawn(rng, 3), drawn(rng, 3)]
    if op == "ConvTranspose":
        attributes |= {"output_padding": [drawn(rng, 0), drawn(rng, 0)]}
        if rng.random() < 0.4:
            attributes |= {"output_shape": [drawn(rng, 9), drawn(rng, 9)]}
    weights = floats("w", np.ones([4, 4, 3, 3]))
    return case([node(op, "x w", "y", **attributes)], [("x", [1, 4, 9, 9])], initializers=[weights])


@kind
def convolution_of_integers(rng):
    op = one(rng, ["ConvInteger", "QLinearConv"])
    scale = floats("s", one(rng, FLOATS) if rng.random() < 0.4 else 0.1)
    zero = numpy_helper.from_array(np.array(3, np.uint8), "z")
    weights = numpy_helper.from_array(np.ones([4, 4, 3, 3], np.uint8), "w")
    names = "x w z z" if op == "ConvInteger" else "x s z w s z s z"
    attributes = windows(rng) | {"group": drawn(rng, 1)}
    dtype = TensorProto.INT32 if op == "ConvInteger" else TensorProto.UINT8
    inputs = [("x", [1, 4, 9, 9], TensorProto.UINT8)]
    return case([node(op, names, "y", **attributes)], inputs, initializers=[scale, zero, weights], dtype=dtype)


@kind
def pool(rng):
    op = one(rng, ["MaxPool", "AveragePool", "LpPool"])
    attributes = windows(rng) | {"kernel_shape": [drawn(rng, 3), drawn(rng, 3)], "ceil_mode": int(rng.integers(2))}
    if op == "AveragePool":
        attributes["count_include_pad"] = int(rng.integers(2))
    if op == "LpPool":
        attributes["p"] = drawn(rng, 2)
    return case([node(op, "x", "y", **attributes)], [("x", [1, 4, 9, 9])], opset=22)


@kind
def windows_over_large_images(rng):
    side = one(rng, [10_000, 30_000, 10**6])
    weights = floats("w", np.ones([one(rng, [1, 64]), 1, 1, 1]))
    make = node("ConstantOfShape", "s", "x")
    op = one(rng, ["Conv", "MaxPool", "GlobalAveragePool"])
    attributes = {"kernel_shape": [1, 1], "pads": [drawn(rng, 0)] * 4} if op != "GlobalAveragePool" else {}
    names = "x w" if op == "Conv" else "x"
    return case([make, node(op, names, "y", **attributes)], initializers=[weights, ints("s", [1, 1, side, side])])


@kind
def recurrent(rng):
    op, gates = one(rng, [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    hidden = drawn(rng, 8)
    if rng.random() < 0.5:
        make = [node("ConstantOfShape", "ws", "w"), node("ConstantOfShape", "rs", "r")]
        n = one(rng, [8, 2000, 20_000, 10**6])
        constants, hidden = [ints("ws", [1, gates * n, 4]), ints("rs", [1, gates * n, n])], n
    else:
        make, constants = [], [floats("w", np.ones([1, gates * 8, 4])), floats("r", np.ones([1, gates * 8, 8]))]
    attributes = {"hidden_size": hidden, "direction": one(rng, ["forward", "reverse", "bidirectional", "sideways"])}
    if rng.random() < 0.3:
        attributes["activations"] = ["Tanh"] * one(rng, [1, 2, 100])
    if rng.random() < 0.3:
        attributes["clip"] = one(rng, FLOATS)
    nodes = [*make, node(op, "x w r", "y", **attributes)]
    return case(nodes, [("x", [one(rng, [3, 100_000]), 1, 4])], initializers=constants)


@kind
def attention(rng):
    heads = {
        "q_num_heads": drawn(rng, 2),
        "kv_num_heads": drawn(rng, 2),
        "softcap": one(rng, FLOATS),
        "scale": one(rng, FLOATS),
    }
    length = one(rng, [4, 20_000, 200_000])
    feeds = {n: np.zeros([1, length, 8], np.float32) for n in "qkv"}
    return case([node("Attention", "q k v", "y", **heads)], [(n, [1, length, 8]) for n in "qkv"], opset=23, feeds=feeds)


@kind
def normalization(rng):
    op = one(
        rng,
        [
            "LRN",
            "BatchNormalization",
            "GroupNormalization",
            "InstanceNormalization",
            "LayerNormalization",
            "RMSNormalization",
        ],
    )
    x, channels = [("x", [1, 4, 3, 3])], floats("c", np.ones(one(rng, [4, 3, 0, 1])))
    match op:
        case "LRN":
            nodes = [node(op, "x", "y", size=drawn(rng, 3), alpha=one(rng, FLOATS), bias=one(rng, FLOATS))]
        case "BatchNormalization":
            nodes = [node(op, "x c c c c", "y", epsilon=one(rng, FLOATS), momentum=one(rng, FLOATS))]
        case "GroupNormalization":
            nodes = [node(op, "x c c", "y", num_groups=drawn(rng, 2))]
        case "InstanceNormalization":
            nodes = [node(op, "x c c", "y", epsilon=one(rng, FLOATS))]
        case _:
            nodes = [node(op, "x c", "y", axis=drawn(rng, -1), epsilon=one(rng, FLOATS))]
    return case(nodes, x, initializers=[channels], opset=23)


@kind
def attributes_that_are_no_numbers(rng):
    op, names = one(rng, [
        ("LeakyRelu", ["alpha"]), ("Elu", ["alpha"]), ("Selu", ["alpha", "gamma"]), ("HardSigmoid", ["alpha", "beta"]),
        ("ThresholdedRelu", ["alpha"]), ("Celu", ["alpha"]), ("Shrink", ["bias", "lambd"]), ("Swish", ["alpha"]),
    ])  # fmt: skip
    attributes = {name: one(rng, FLOATS) for name in names}
    return case([node(op, "x", "a", **attributes), node("Relu", "a", "y")], [("x", [3, 4])], opset=24)


@kind
def gemm_with_extremes(rng):
    attributes = {"alpha": one(rng, FLOATS), "beta": one(rng, FLOATS), "transA": drawn(rng, 0), "transB": drawn(rng, 1)}
    return case([node("Gemm", "x w", "y", **attributes)], [("x", [3, 4])], initializers=[floats("w", np.ones([5, 4]))])


@kind
def quantization(rng):
    op = one(rng, ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"])
    if op == "DynamicQuantizeLinear":
        x = np.array([one(rng, FLOATS) for _ in range(7)], np.float32)
        return case([node(op, "x", "y s z")], [("x", [7])], feeds={"x": x}, dtype=TensorProto.UINT8)
    count = one(rng, [1, 4, 3, 0])
    scale = floats("s", [one(rng, FLOATS) for _ in range(count)])
    zero = numpy_helper.from_array(np.zeros(one(rng, [count, 1]), np.uint8), "z")
    attributes = {"axis": drawn(rng, 0), "block_size": drawn(rng, 0)}
    dtypes = (
        (TensorProto.FLOAT, TensorProto.UINT8) if op == "QuantizeLinear" else (TensorProto.UINT8, TensorProto.FLOAT)
    )
    nodes = [node(op, "x s z", "y", **attributes)]
    return case(nodes, [("x", [4, 4], dtypes[0])], initializers=[scale, zero], dtype=dtypes[1])


@kind
def quantized_network_with_hostile_scales(rng):
    scales = [floats(f"s{i}", one(rng, [*FLOATS, 0.1, 0.1, 0.1])) for i in range(3)]
    zero, weights = (
        numpy_helper.from_array(np.array(0, np.int8), "z"),
        numpy_helper.from_array(np.ones([4, 4], np.int8), "w"),
    )
    nodes = [
        node("QuantizeLinear", "x s0 z", "q"), node("DequantizeLinear", "q s0 z", "d"),
        node("DequantizeLinear", "w s1 z", "e"), node("MatMul", "d e", "m"),
        node("QuantizeLinear", "m s2 z", "r"), node("DequantizeLinear", "r s2 z", "y"),
    ]  # fmt: skip
    return case(nodes, [("x", [4, 4])], initializers=[*scales, zero, weights])


@kind
def blocks_of_space(rng):
    op = one(rng, ["DepthToSpace", "SpaceToDepth"])
    return case([node(op, "x", "y", blocksize=drawn(rng, 2))], [("x", [1, 4, 4, 4])])


@kind
def images_of_columns(rng):
    shapes = [ints("i", [drawn(rng, 5), drawn(rng, 5)]), ints("b", [drawn(rng, 1), drawn(rng, 5)])]
    attributes = windows(rng)
    attributes.pop("auto_pad", None)
    return case([node("Col2Im", "x i b", "y", **attributes)], [("x", [1, 5, 5])], initializers=shapes)


@kind
def sampling(rng):
    op = one(rng, ["AffineGrid", "RoiAlign", "GridSample", "MaxUnpool", "CenterCropPad"])
    image = [("x", [1, 1, 4, 4])]
    match op:
        case "AffineGrid":
            sizes = ints("s", [1, 1, extent(rng), one(rng, [4, extent(rng)])])
            return case([node(op, "t s", "y")], [("t", [1, 2, 3])], initializers=[sizes])
        case "RoiAlign":
            attributes = {
                "output_height": drawn(rng, 2),
                "output_width": drawn(rng, 2),
                "sampling_ratio": drawn(rng, 0),
            }
            box = floats("r", [[one(rng, FLOATS) for _ in range(4)]])
            return case(
                [node(op, "x r b", "y", **attributes)], image, initializers=[box, ints("b", [one(rng, [0, 1, -1])])]
            )
        case "GridSample":
            grid = floats("g", [[[[one(rng, FLOATS), one(rng, FLOATS)]]]])
            return case(
                [node(op, "x g", "y", mode=one(rng, ["linear", "nearest", "cubic"]))], image, initializers=[grid]
            )
        case "MaxUnpool":
            constants = [
                ints("i", np.full([1, 1, 4, 4], one(rng, [0, 63, 64, -1, 2**62]))),
                ints("s", [1, 1, drawn(rng, 8), 8]),
            ]
            return case([node(op, "x i s", "y", kernel_shape=[2, 2], strides=[2, 2])], image, initializers=constants)
        case _:
            return case([node(op, "x s", "y", axes=[2, 3])], image, initializers=[ints("s", [extent(rng), 4])])


@kind
def detection(rng):
    n = one(rng, [10, 5000, 20_000])
    limits = [ints("m", [extent(rng)]), floats("i", [one(rng, FLOATS)]), floats("t", [one(rng, FLOATS)])]
    feeds = {"b": rng.random([1, n, 4], np.float32), "s": rng.random([1, 1, n], np.float32)}
    inputs = [("b", [1, n, 4]), ("s", [1, 1, n])]
    return case(
        [node("NonMaxSuppression", "b s m i t", "y")], inputs, initializers=limits, feeds=feeds, dtype=TensorProto.INT64
    )


@kind
def linear_algebra(rng):
    n = one(rng, [1, 300, 3000, 0])
    return case([node("Det", "x", "y")], [("x", [n, one(rng, [n, n + 1])])])


@kind
def n_grams(rng):
    attributes = {
        "max_gram_length": drawn(rng, 2), "min_gram_length": drawn(rng, 1), "max_skip_count": drawn(rng, 1),
        "mode": one(rng, ["TF", "IDF", "?"]),
        "ngram_counts": [drawn(rng, 0), drawn(rng, 2)], "ngram_indexes": [drawn(rng, i) for i in range(4)],
        "pool_int64s": [1, 2, 1, 2, 3, 4],
    }  # fmt: skip
    return case([node("TfIdfVectorizer", "x", "y", **attributes)], [("x", [100], TensorProto.INT64)])


@kind
def trees(rng):
    nodes = one(rng, [3, 1000])
    attributes = {
        "nodes_truenodeids": [drawn(rng, 1)] * nodes, "nodes_falsenodeids": [drawn(rng, 2)] * nodes,
        "nodes_featureids": [drawn(rng, 0)] * nodes,
        "nodes_modes": helper.make_tensor("modes", TensorProto.UINT8, [nodes], [int(rng.integers(8))] * nodes),
        "nodes_splits": helper.make_tensor("splits", TensorProto.FLOAT, [nodes], [0.5] * nodes),
        "nodes_trueleafs": [int(rng.integers(2))] * nodes, "nodes_falseleafs": [int(rng.integers(2))] * nodes,
        "leaf_targetids": [drawn(rng, 0)] * 3,
        "leaf_weights": helper.make_tensor("weights", TensorProto.FLOAT, [3], [1.0] * 3),
        "tree_roots": [drawn(rng, 0)], "n_targets": drawn(rng, 1),
    }  # fmt: skip
    made = case([node("TreeEnsemble", "x", "y", domain="ai.onnx.ml", **attributes)], [("x", [2, 3])])
    return made


@kind
def pictures(rng):
    data = rng.integers(0, 256, int(rng.integers(1, 500)), np.uint8)
    head = one(rng, [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"P6 99999 99999 255\n", b""])
    data = np.concatenate([np.frombuffer(head, np.uint8), data])
    inputs = [("x", [len(data)], TensorProto.UINT8)]
    return case([node("ImageDecoder", "x", "y")], inputs, feeds={"x": data}, dtype=TensorProto.UINT8)


@kind
def sequences_reversed(rng):
    lengths = ints("l", [one(rng, [0, -1, 4, 5, 2**62]) for _ in range(one(rng, [3, 2, 0]))])
    attributes = {"batch_axis": one(rng, [0, 1, 7]), "time_axis": one(rng, [0, 1, -1])}
    return case([node("ReverseSequence", "x l", "y", **attributes)], [("x", [4, 3])], initializers=[lengths])
