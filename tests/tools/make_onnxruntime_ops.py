#!/usr/bin/env python3
"""Writes the test cases of ONNX Runtime's own ops: one small model each, with what ONNX Runtime gives for it.

    pip install onnxruntime==1.32.0 onnx==1.23.2 numpy
    python3 tests/tools/make_onnxruntime_ops.py [FOLDER]

Into FOLDER, or a temporary one, go `CASE/model.onnx` and `CASE/test_data_set_I/{input,output}_J.pb`, as for the
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
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as pybind

from onnxruntime_attention_ops import attentions, decoders, grouped, projected
from onnxruntime_case import CASES, DOMAIN, add, floats, integers, run
from onnxruntime_other_ops import basics, experts, gates, looked_up, three_positions
from onnxruntime_quantized_ops import (channels_last, elementwise, embedded, quantized, quantized_attention,
                                       real_products)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
ARCHIVE = os.path.join(ROOT, "testdata", "onnxruntime-ops.tar.xz")
PAGE = os.path.join(ROOT, "compiler", "docs", "onnxruntime-ops.md")


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


def blocks():
    for bits, k, block in [(4, 64, 32), (4, 80, 32), (8, 64, 16), (8, 40, 32), (4, 16, 16), (2, 64, 32), (2, 96, 16)]:
        n, count = 6, -(-k // block)
        case = f"matmul_nbits_{bits}_{k}_{block}"
        weights = integers(case, n, count, block * bits // 8)
        scales = np.abs(floats(case, n * count, scale=0.05)) + 0.01
        points = integers(case, n * (-(-count * bits // 8)))
        shape = {"K": k, "N": n, "bits": bits, "block_size": block}
        for kind, zeros in [("", None), ("_points", points), ("_floats", floats(case, n * count, scale=2))]:
            if kind == "_floats" and bits != 4:
                continue  # refused by ONNX Runtime on CPUs
            named = {"x": floats("x", 3, k), "w": weights, "s": scales, "z": zeros}
            add(case + kind, "MatMulNBits", named, constants=["w", "s", "z"], **shape)
        biased = {"x": floats("x", 2, 5, k), "w": weights, "s": scales, "z": points, "g": None, "b": floats("b", n)}
        add(case + "_bias", "MatMulNBits", biased, constants=["w", "s", "z", "b"], **shape)
    for kind, k, order in [("", 64, lambda g: g), ("_turned", 64, lambda g: g[::-1]),
                           ("_mixed", 96, lambda g: g[np.argsort(floats("order", 96), kind="stable")])]:
        groups = order(np.arange(k, dtype=np.int32) // 32).copy()
        named = {"x": floats("x", 2, k), "w": integers("g_idx", 6, k // 32, 16), "s": floats("g_idx", 6 * k // 32),
                 "z": None, "g": groups}
        add(f"matmul_nbits_groups{kind}", "MatMulNBits", named, constants=["w", "s", "g"], K=k, N=6, block_size=32)
    at = np.array([[0, 3], [4, 1]], np.int64)
    outside = np.array([[0, -1, 5], [-5, -6, 9]], np.int32)
    add("gather_block_quantized_outside", "GatherBlockQuantized",
        {"t": integers("t", 5, 32), "i": outside, "s": floats("s", 5, 4)}, constants=["t", "s"], bits=4, block_size=16,
        gather_axis=0, quantize_axis=1)
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


def write(folder, name, case):
    """Runs the model and writes it with its inputs and results, whose types are now known."""
    model, outputs = case.model, [o.name for o in case.model.graph.output]
    for i, fed in enumerate(case.steps):
        results = run(case.reference or model, fed)
        assert case.may_be_nan or all(np.isfinite(r).all() for r in results), name
        if i == 0:
            del model.graph.output[:]
            for output, r in zip(outputs, results):
                dtype = helper.np_dtype_to_tensor_dtype(r.dtype)
                model.graph.output.append(helper.make_tensor_value_info(output, dtype, [None] * r.ndim))
        data = os.path.join(folder, name, f"test_data_set_{i}")
        os.makedirs(data)
        onnx.save(model, os.path.join(folder, name, "model.onnx"))
        for kind, values in [("input", list(fed.items())), ("output", list(zip(outputs, results)))]:
            for j, (value_name, value) in enumerate(values):
                with open(os.path.join(data, f"{kind}_{j}.pb"), "wb") as f:
                    f.write(numpy_helper.from_array(value, value_name).SerializeToString())


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


def check_page():
    """The book has every op of the domain."""
    with open(PAGE) as f:
        page = f.read()
    ops = {schema.name for schema in pybind.get_all_operator_schema() if schema.domain == DOMAIN}
    missing = sorted(op for op in ops if f"\n| `{op}` |" not in page)
    assert not missing, f"{PAGE} lacks {missing}"


def main():
    check_page()
    for group in [activations, products, convolutions, normalisations, embeddings, blocks, rotations,
                  attentions, projected, grouped, decoders, quantized, channels_last,
                  elementwise, real_products, embedded, quantized_attention, basics, gates, three_positions,
                  looked_up, experts]:
        group()
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    for name, case in CASES.items():
        write(folder, name, case)
    pack(folder)
    print(f"{len(CASES)} cases, {os.path.getsize(ARCHIVE)} bytes")


if __name__ == "__main__":
    main()
