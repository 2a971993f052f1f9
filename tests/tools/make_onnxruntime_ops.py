#!/usr/bin/env python3
"""Writes the test cases of ONNX Runtime's own ops: one small model each, with what ONNX Runtime gives for it.

    pip install onnxruntime==1.32.0 onnx==1.23.2 numpy
    python3 tests/tools/make_onnxruntime_ops.py [FOLDER]

Into FOLDER, or a temporary one, go `CASE/model.onnx` and `CASE/test_data_set_0/{input,output}_J.pb`, as for the
standard's node tests; packed they are `testdata/onnxruntime-ops.tar.xz`.
"""

import io
import lzma
import os
import sys
import tarfile
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ARCHIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata", "onnxruntime-ops.tar.xz")
DOMAIN = "com.microsoft"
CASES = {}


def floats(case, *shape, scale=1.0):
    """Normal numbers, the same for each name of a case and shape in every run."""
    seed = sum(ord(c) * 31**i for i, c in enumerate(case)) + sum(shape)
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def add(case, op, inputs, outputs=("y",), constants=(), domain=DOMAIN, dims=None, **attributes):
    """A case of one node: `inputs` by name, None for one that is absent; those in `constants` are initializers.

    `dims` gives named dims for the inputs that have them; all else is fixed.
    """
    dims = dims or {}
    names = [name if value is not None else "" for name, value in inputs.items()]
    node = helper.make_node(op, names, list(outputs), name=case, domain=domain, **attributes)
    info = lambda name, v: helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(v.dtype), dims.get(name, v.shape))
    fed = {name: v for name, v in inputs.items() if v is not None and name not in constants}
    initializers = [numpy_helper.from_array(inputs[name], name) for name in constants if inputs[name] is not None]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs if name]
    graph = helper.make_graph([node], case, [info(name, v) for name, v in fed.items()], results, initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    CASES[case] = (helper.make_model(graph, opset_imports=opsets, ir_version=10), fed)


def activations():
    x, bias = floats("x", 2, 3, 8, scale=2), floats("bias", 8)
    add("gelu", "Gelu", {"x": x})
    add("bias_gelu", "BiasGelu", {"x": x, "bias": bias}, constants=["bias"], dims={"x": ["N", 3, 8]})
    add("fast_gelu", "FastGelu", {"x": x})
    add("fast_gelu_bias", "FastGelu", {"x": x, "bias": bias}, constants=["bias"])
    add("quick_gelu", "QuickGelu", {"x": x})
    add("quick_gelu_alpha", "QuickGelu", {"x": x}, alpha=0.7)


def products():
    a, b = floats("a", 3, 4), floats("b", 4, 5)
    add("fused_matmul", "FusedMatMul", {"a": a, "b": b}, alpha=0.25)
    add("fused_matmul_trans", "FusedMatMul", {"a": a.T.copy(), "b": b.T.copy()}, constants=["b"], transA=1, transB=1)
    c, d = floats("c", 2, 2, 3, 4), floats("d", 2, 2, 5, 4)
    add("fused_matmul_scores", "FusedMatMul", {"a": c, "b": d}, alpha=0.5, transB=1, dims={"a": ["N", 2, "S", 4]})
    add("fused_matmul_vector", "FusedMatMul", {"a": floats("v", 4), "b": d}, transA=1, transB=1, alpha=2.0)
    e, f = floats("e", 3, 2, 4), floats("f", 4, 2, 5)
    add("fused_matmul_batch", "FusedMatMul", {"a": e, "b": f}, transBatchA=1, transBatchB=1)
    e, f = floats("e", 4, 2, 3), floats("f", 5, 2, 4)
    add("fused_matmul_batch_trans", "FusedMatMul", {"a": e, "b": f}, transBatchA=1, transBatchB=1, transA=1, transB=1)
    g, h = floats("g", 3, 2, 2, 4), floats("h", 4, 2, 2, 5)
    add("fused_matmul_batches", "FusedMatMul", {"a": g, "b": h}, transBatchA=1, transBatchB=1)
    c = floats("c", 5)
    gemm = {"a": a, "b": b, "c": c}
    for name in ["Relu", "Sigmoid", "Tanh", "Softplus", "Softsign"]:
        add(f"fused_gemm_{name.lower()}", "FusedGemm", gemm, constants=["b", "c"], activation=name)
    for name in ["LeakyRelu", "Elu", "ThresholdedRelu"]:
        add(f"fused_gemm_{name.lower()}", "FusedGemm", gemm, constants=["b", "c"], activation=name,
            activation_alpha=0.3)
    add("fused_gemm_hard_sigmoid", "FusedGemm", {"a": a.T.copy(), "b": b.T.copy(), "c": None}, constants=["b"],
        activation="HardSigmoid", activation_alpha=0.3, activation_beta=0.4, alpha=0.5, transA=1, transB=1)


def convolutions():
    x, w, bias, z = floats("x", 2, 4, 6, 5), floats("w", 8, 4, 3, 3), floats("bias", 8), floats("z", 2, 8, 6, 5)
    conv = {"x": x, "w": w, "bias": bias}
    same = {"constants": ["w", "bias"], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    for name in ["Relu", "Sigmoid", "Tanh"]:
        add(f"fused_conv_{name.lower()}", "FusedConv", conv, activation=name, **same)
    for name, parameters in [("LeakyRelu", [0.2]), ("Clip", [-0.5, 1.5]), ("HardSigmoid", [0.1, 0.4])]:
        add(f"fused_conv_{name.lower()}", "FusedConv", conv, activation=name, activation_params=parameters, **same)
    add("fused_conv_sum_relu", "FusedConv", {**conv, "z": z}, activation="Relu", **same)
    add("fused_conv_sum", "FusedConv", {"x": x, "w": w, "bias": None, "z": z}, **same)
    grouped = {"x": x, "w": floats("w", 8, 2, 3, 3)}
    add("fused_conv_groups", "FusedConv", grouped, constants=["w"], group=2, strides=[2, 1], activation="Relu")


def normalisations():
    x, skip = floats("x", 2, 3, 16), floats("skip", 2, 3, 16)
    gamma, beta, bias = floats("gamma", 16), floats("beta", 16), floats("bias", 16)
    sums = ("y", "", "", "sum")
    scale = {"x": x, "gamma": gamma}
    add("simplified_layer_norm", "SimplifiedLayerNormalization", scale, constants=["gamma"], domain="", epsilon=1e-5)
    add("simplified_layer_norm_axis", "SimplifiedLayerNormalization", {"x": x, "gamma": floats("g", 3, 16)},
        constants=["gamma"], domain="", axis=1)
    skipped = {"x": x, "skip": skip, "gamma": gamma}
    rows = {"constants": ["gamma", "beta", "bias"], "dims": {"x": ["N", "S", 16], "skip": ["N", "S", 16]}}
    add("skip_layer_norm", "SkipLayerNormalization", {**skipped, "beta": beta}, constants=["gamma", "beta"])
    add("skip_layer_norm_bias", "SkipLayerNormalization", {**skipped, "beta": beta, "bias": bias}, sums, **rows)
    add("skip_layer_norm_no_beta", "SkipLayerNormalization", {**skipped, "beta": None, "bias": bias},
        constants=["gamma", "bias"], epsilon=1e-3)
    add("skip_layer_norm_broadcast", "SkipLayerNormalization", {**skipped, "skip": skip[:1], "beta": beta}, sums,
        constants=["gamma", "beta"])
    add("skip_layer_norm_flat_skip", "SkipLayerNormalization", {**skipped, "skip": skip[0], "beta": beta}, sums,
        constants=["gamma", "beta"])
    add("skip_simplified", "SkipSimplifiedLayerNormalization", skipped, sums, constants=["gamma"], epsilon=1e-5)
    add("skip_simplified_bias", "SkipSimplifiedLayerNormalization", {**skipped, "bias": bias}, sums,
        constants=["gamma", "bias"])
    add("skip_simplified_rows", "SkipSimplifiedLayerNormalization",
        {"x": x.reshape(6, 16), "skip": skip.reshape(6, 16), "gamma": gamma}, constants=["gamma"])


def embeddings():
    ids = np.array([[3, 1, 4, 1], [5, 0, 2, 6]], np.int32)
    segment_ids = np.array([[0, 0, 1, 1], [1, 0, 1, 0]], np.int32)
    tables = {"words": floats("words", 7, 8), "positions": floats("positions", 6, 8)}
    ends = {"segments": floats("segments", 2, 8), "gamma": floats("gamma", 8), "beta": floats("beta", 8)}
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], np.int32)
    at = np.array([[2, 0, 1, 5], [3, 3, 4, 0]], np.int32)
    constants = [*tables, *ends]
    all_ids = {"ids": ids, "segment_ids": segment_ids, **tables, **ends}
    named = {"ids": ["N", "S"], "segment_ids": ["N", "S"], "mask": ["N", "S"]}
    three = ("y", "mask_index", "sum")
    add("embed_layer_norm", "EmbedLayerNormalization", {**all_ids, "mask": mask}, three, constants, dims=named)
    add("embed_layer_norm_no_mask", "EmbedLayerNormalization", all_ids, ("y", "mask_index"), constants)
    add("embed_layer_norm_holes", "EmbedLayerNormalization", {**all_ids, "mask": mask[:, ::-1].copy()},
        ("y", "mask_index"), constants)
    no_segments = {"ids": ids, "segment_ids": None, **tables, **ends, "segments": None}
    add("embed_layer_norm_no_segments", "EmbedLayerNormalization", no_segments, ("y", "mask_index"), constants)
    add("embed_layer_norm_positions", "EmbedLayerNormalization", {**all_ids, "mask": None, "position_ids": at}, three,
        constants)


def integers(case, *shape):
    """Bytes of any value, or of two integers each."""
    return (np.abs(floats(case, *shape, scale=1e4)).astype(np.int64) % 256).astype(np.uint8)


def blocks():
    for bits, k, block in [(4, 64, 32), (4, 80, 32), (8, 64, 16), (8, 40, 32), (4, 16, 16)]:
        n, count = 6, -(-k // block)
        case = f"matmul_nbits_{bits}_{k}_{block}"
        weights = integers(case, n, count, block * bits // 8)
        scales = np.abs(floats(case, n * count, scale=0.05)) + 0.01
        points = integers(case, n * (-(-count * bits // 8)))
        shape = {"K": k, "N": n, "bits": bits, "block_size": block}
        for kind, zeros in [("", None), ("_points", points), ("_floats", floats(case, n * count, scale=2))]:
            if kind == "_floats" and bits == 8:
                continue  # refused by ONNX Runtime on CPUs
            named = {"x": floats("x", 3, k), "w": weights, "s": scales, "z": zeros}
            add(case + kind, "MatMulNBits", named, constants=["w", "s", "z"], **shape)
        biased = {"x": floats("x", 2, 5, k), "w": weights, "s": scales, "z": points, "g": None, "b": floats("b", n)}
        add(case + "_bias", "MatMulNBits", biased, constants=["w", "s", "z", "b"], **shape)
    at = np.array([[0, 3], [4, 1]], np.int64)
    for bits, columns in [(4, 32), (8, 64)]:
        case = f"gather_block_quantized_{bits}"
        table, scales = integers(case, 5, 32 if bits == 4 else columns), np.abs(floats(case, 5, 64 // 16)) + 0.01
        points = integers(case + "z", 5, 2 if bits == 4 else 4)
        for kind, zeros in [("", None), ("_points", points)]:
            named = {"t": table, "i": at, "s": scales, "z": zeros}
            add(case + kind, "GatherBlockQuantized", named, constants=["t", "s", "z"], bits=bits, block_size=16,
                gather_axis=0, quantize_axis=1)


def rotations():
    heads, size, length = 2, 8, 5
    flat, split = floats("x", 2, length, heads * size), floats("x", 2, heads, length, size)
    at = np.array([[3, 0, 1, 7, 2], [9, 8, 4, 5, 6]], np.int64)
    angles = floats("angles", 10, size // 2)
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
    few = {name: table[:, :2].copy() for name, table in tables.items()}
    for kind, where in [("", at), ("_offset", np.array([4], np.int64))]:
        add(f"rotary_split{kind}", "RotaryEmbedding", {"x": split, "at": where, **tables}, constants=["cos", "sin"])
        add(f"rotary_flat{kind}", "RotaryEmbedding", {"x": flat, "at": where, **tables}, constants=["cos", "sin"])
        add(f"rotary_pairs{kind}", "RotaryEmbedding", {"x": flat, "at": where, **tables}, num_heads=heads,
            interleaved=1, dims={"x": ["N", "T", heads * size]})
        add(f"rotary_part{kind}", "RotaryEmbedding", {"x": flat, "at": where, **few}, constants=["cos", "sin"],
            num_heads=heads, rotary_embedding_dim=4)


def attentions():
    heads, size, queries, keys = 2, 8, 4, 6
    q = floats("q", 2, queries, heads * size)
    k, v = floats("k", 2, keys, heads * size), floats("v", 2, keys, heads * 4)
    bias = floats("bias", heads * (2 * size + 4))
    padding = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], np.int32)
    scores = floats("scores", 1, heads, queries, keys)
    names = ["q", "k", "v", "bias", "padding", "scores", "past_k", "past_v"]

    def case(kind, values, outputs=("y",), **attributes):
        given = {"q": q, "k": k, "v": v, **values}
        named = {name: given.get(name) for name in names}
        while named[list(named)[-1]] is None:
            named.popitem()
        add(f"multi_head_attention{kind}", "MultiHeadAttention", named, outputs, num_heads=heads,
            constants=[name for name in named if name == "bias"], **attributes)

    case("", {})
    case("_bias", {"bias": bias})
    case("_scale", {"bias": bias}, scale=0.2)
    case("_padding", {"padding": padding})
    case("_padding_value", {"bias": bias, "padding": padding}, mask_filter_value=-3.0)
    case("_scores", {"scores": scores})
    case("_padding_and_scores", {"bias": bias, "padding": padding, "scores": scores})
    same = floats("k", 2, queries, heads * size), floats("v", 2, queries, heads * size)
    case("_causal", {"k": same[0], "v": same[1]}, unidirectional=1)
    past = {"past_k": floats("pk", 2, heads, 3, size), "past_v": floats("pv", 2, heads, 3, size)}
    three = ("y", "present_k", "present_v")
    case("_past", {"k": same[0], "v": same[1], **past}, three)
    case("_causal_past", {"k": same[0], "v": same[1], **past}, three, unidirectional=1)


def projected():
    x, heads = floats("x", 2, 5, 16), 2
    weights, bias = floats("w", 16, 48, scale=0.3), floats("b", 48)
    padding = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    given = {"x": x, "w": weights, "b": bias}
    more = {"padding": padding, "past": None, "scores": floats("scores", 1, heads, 5, 5)}
    constants = ["w", "b"]
    dims = {"x": ["N", 5, 16]}
    add("attention", "Attention", given, constants=constants, num_heads=heads, dims=dims)
    add("attention_padding", "Attention", {**given, "padding": padding}, constants=constants, num_heads=heads)
    add("attention_scores", "Attention", {**given, **more}, constants=constants, num_heads=heads, scale=0.2)
    add("attention_causal", "Attention", given, constants=constants, num_heads=heads, unidirectional=1)
    sizes = {"x": x, "w": floats("w", 16, 40, scale=0.3), "b": floats("b", 40)}
    add("attention_sizes", "Attention", sizes, constants=constants, num_heads=heads, qkv_hidden_sizes=[16, 16, 8])


def quantized():
    a, b = integers("a", 3, 16), integers("b", 16, 6)
    u8, signed = np.uint8, b.view(np.int8)
    one = lambda x: np.array(x, np.float32)
    scales = np.linspace(0.01, 0.03, 6).astype(np.float32)
    c = (floats("c", 6, scale=900)).astype(np.int32)
    ends = {"y_scale": one(2.0), "y_zero": np.array(120, u8)}

    def gemm(case, a, b, b_scale, b_zero, more, **attributes):
        named = {"a": a, "a_scale": one(0.02), "a_zero": np.array(117, u8), "b": b, "b_scale": b_scale,
                 "b_zero": b_zero, **more}
        add(case, "QGemm", named, constants=[name for name in named if name != "a"], **attributes)

    zero = np.array(3, np.int8)
    gemm("qgemm", a, signed, one(0.01), zero, {"c": c, **ends})
    gemm("qgemm_columns", a, signed, scales, np.zeros(6, np.int8), {"c": c, **ends})
    gemm("qgemm_unsigned", a, b, one(0.01), np.array(99, u8), {"c": None, **ends})
    gemm("qgemm_turned", a.T.copy(), signed.T.copy(), one(0.01), zero, {"c": c, **ends}, transA=1, transB=1, alpha=0.5)
    gemm("qgemm_floats", a, signed, scales, np.zeros(6, np.int8), {"c": c})
    for case, axis in [("qlinear_softmax", -1), ("qlinear_softmax_axis", 1)]:
        named = {"x": integers("x", 2, 5, 7), "x_scale": one(0.03), "x_zero": np.array(117, u8),
                 "y_scale": one(1 / 256), "y_zero": np.array(0, u8)}
        add(case, "QLinearSoftmax", named, constants=list(named)[1:], axis=axis, opset=13)


def write(folder, case, model, fed):
    """Runs the model and writes it with its inputs and results, whose types are now known."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    results = session.run(names, fed)
    assert all(np.isfinite(r).all() for r in results), case
    del model.graph.output[:]
    for name, r in zip(names, results):
        dtype = helper.np_dtype_to_tensor_dtype(r.dtype)
        model.graph.output.append(helper.make_tensor_value_info(name, dtype, [None] * r.ndim))
    data = os.path.join(folder, case, "test_data_set_0")
    os.makedirs(data)
    onnx.save(model, os.path.join(folder, case, "model.onnx"))
    for kind, values in [("input", list(fed.items())), ("output", list(zip(names, results)))]:
        for i, (name, value) in enumerate(values):
            with open(os.path.join(data, f"{kind}_{i}.pb"), "wb") as f:
                f.write(numpy_helper.from_array(value, name).SerializeToString())


def pack(folder):
    """Writes the archive: in order of names, without times and owners, so that it is the same in every run."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for root, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                path = os.path.join(root, name)
                entry = tarfile.TarInfo(os.path.relpath(path, folder))
                entry.size = os.path.getsize(path)
                entry.mode = 0o644
                with open(path, "rb") as f:
                    archive.addfile(entry, f)
    with open(ARCHIVE, "wb") as f:
        f.write(lzma.compress(tar.getvalue(), preset=9 | lzma.PRESET_EXTREME))


def main():
    for group in [activations, products, convolutions, normalisations, embeddings, blocks, rotations,
                  attentions, projected, quantized]:
        group()
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    for case, (model, fed) in CASES.items():
        write(folder, case, model, fed)
    pack(folder)
    print(f"{len(CASES)} cases, {os.path.getsize(ARCHIVE)} bytes")


if __name__ == "__main__":
    main()
