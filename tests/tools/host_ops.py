#!/usr/bin/env python3
"""Times single ops that have no kernel, or have one for some dtypes only, beside ONNX Runtime on one thread.

    python3 host_ops.py OPTC [NAME ...] [--limit RATIO]

Each case is a model of one op on inputs of a typical size, made in a temporary folder. A line has the least time of
optc and of ONNX Runtime in ms, and their ratio; with NAMEs only cases are run whose name has one of them in it. Lines
above the limit (3) are marked, and their number is the last line. Needs numpy, onnx and onnxruntime.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

RANDOM = np.random.default_rng(0)
MILLION = 1_000_000


def floats(*shape, dtype="float32"):
    return RANDOM.standard_normal(shape).astype(dtype)


def ints(low, high, *shape, dtype="int64"):
    return RANDOM.integers(low, high, shape).astype(dtype)


def case(name, op, inputs, constants=(), outputs=1, opset=18, **attributes):
    """An op whose operands are inputs, then constants; `None` for one that is absent."""
    return name, op, list(inputs), list(constants), outputs, opset, attributes


def pairs():
    for dtype in ["int64", "int32", "uint8"]:
        for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Equal", "Less", "GreaterOrEqual"]:
            if dtype != "uint8" or op in ["Equal", "Less", "GreaterOrEqual"]:
                yield case(f"{op}_{dtype}", op, [ints(1, 99, MILLION, dtype=dtype) for _ in range(2)])
    yield case("add_row", "Add", [ints(0, 9, 1000, 1000), ints(0, 9, 1000)])
    yield case("add_column", "Add", [ints(0, 9, 1000, 1000), ints(0, 9, 1000, 1)])
    yield case("mod_int64", "Mod", [ints(-99, 99, MILLION), ints(1, 9, MILLION)])
    yield case("fmod", "Mod", [floats(MILLION), floats(MILLION)], fmod=1)
    yield case("pow_int64", "Pow", [ints(0, 9, MILLION), np.array(3)])
    yield case("pow_float", "Pow", [np.abs(floats(MILLION)), floats(MILLION)])
    shift = [ints(0, 99, MILLION, dtype="uint32"), ints(0, 9, MILLION, dtype="uint32")]
    yield case("shift", "BitShift", shift, direction="LEFT")
    yield case("bit_and", "BitwiseAnd", [ints(0, 99, MILLION), ints(0, 99, MILLION)])
    yield case("where", "Where", [ints(0, 2, MILLION, dtype=bool), ints(0, 9, MILLION), ints(0, 9, MILLION)])
    yield case("add_float64", "Add", [floats(MILLION, dtype="float64") for _ in range(2)])


def functions():
    casts = ["int64 int32", "int64 float32", "float32 int64", "int64 bool", "float32 float64", "float64 float32"]
    for source, to in map(str.split, casts):
        number = helper.np_dtype_to_tensor_dtype(np.dtype(to))
        yield case(f"cast_{source}_{to}", "Cast", [ints(0, 2, MILLION, dtype=source)], to=number)
    for op in ["Abs", "Neg", "Sign"]:
        yield case(f"{op}_int64", op, [ints(-9, 9, MILLION)])
    yield case("clip_int64", "Clip", [ints(-9, 9, MILLION)], [np.array(-3), np.array(3)])
    for op in ["Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Atanh", "IsInf", "Shrink"]:
        yield case(op, op, [(floats(MILLION) * 0.3).clip(-1, 1)])
    yield case("Acosh", "Acosh", [1 + np.abs(floats(MILLION))])


def along_axes():
    for op in ["ReduceSum", "ReduceMax", "ReduceProd", "ReduceMean"]:
        for axis in [0, 1]:
            yield case(f"{op}_{axis}", op, [ints(0, 9, 1000, 1000)], [np.array([axis])])
    for axis in [0, 1]:
        yield case(f"ArgMax_{axis}", "ArgMax", [ints(0, 900, 1000, 1000)], axis=axis)
    tops = [("few", (80, 8400), 1), ("some", (80, 8400), 300), ("of_many", (MILLION,), 1000)]
    for name, shape, k in tops:
        yield case(f"top_{name}", "TopK", [floats(*shape)], [np.array([k])], outputs=2)
    yield case("top_columns", "TopK", [floats(8400, 80)], [np.array([10])], outputs=2, axis=0)
    for axis in [0, 1, 2]:
        yield case(f"cumsum_{axis}", "CumSum", [floats(10, 1000, 128)], [np.array(axis)])
    yield case("cumsum_back", "CumSum", [floats(10, 1000, 128)], [np.array(1)], reverse=1, exclusive=1)
    yield case("hardmax", "Hardmax", [floats(1000, 1000)])


def moves():
    rows, places = floats(8400, 85), ints(0, 8400, 300, 1)
    yield case("gather_nd", "GatherND", [rows, places])
    yield case("gather_nd_batch", "GatherND", [floats(8, 8400, 64), ints(0, 8400, 8, 300, 1)], batch_dims=1)
    yield case("gather_elements", "GatherElements", [floats(100, 8400), ints(0, 8400, 100, 8400)], axis=1)
    for reduction in ["none", "add"]:
        yield case(f"scatter_nd_{reduction}", "ScatterND", [rows, places, floats(300, 85)], reduction=reduction)
        operands = [floats(100, 8400), ints(0, 8400, 100, 1000), floats(100, 1000)]
        yield case(f"scatter_elements_{reduction}", "ScatterElements", operands, axis=1, reduction=reduction)
    back = [np.array([v]) for v in [-1, -10000, 1, -1]]
    yield case("slice_back", "Slice", [floats(1000, 1000)], back)
    yield case("one_hot", "OneHot", [ints(0, 1000, 256)], [np.array(1000), np.float32([0, 1])])
    yield case("trilu", "Trilu", [floats(8, 512, 512)])
    yield case("eye", "EyeLike", [floats(1000, 1000)])
    yield case("col2im", "Col2Im", [floats(1, 288, 1024)], [np.array([34, 34]), np.array([3, 3])])
    steps = [floats(100, 16, 256), ints(1, 100, 16)]
    yield case("reverse_sequence", "ReverseSequence", steps, time_axis=0, batch_axis=1)
    yield case("center_crop_pad", "CenterCropPad", [floats(32, 200, 200)], [np.array([224, 160])], axes=[1, 2])
    yield case("non_zero", "NonZero", [floats(1000, 1000) > 1])
    yield case("compress", "Compress", [rows, ints(0, 2, 8400, dtype=bool)], axis=0)
    yield case("unique", "Unique", [ints(0, 1000, 100000)], outputs=4)
    yield case("range", "Range", [np.array(0), np.array(MILLION), np.array(1)])


def samples():
    image, twice = floats(1, 64, 64, 64), np.float32([1, 1, 2, 2])
    for coordinate in ["half_pixel", "align_corners"]:
        attributes = {"mode": "linear", "coordinate_transformation_mode": coordinate}
        yield case(f"resize_{coordinate}", "Resize", [image], [None, twice], **attributes)
    half = np.float32([1, 1, 0.5, 0.5])
    yield case("resize_down", "Resize", [floats(1, 64, 128, 128)], [None, half], mode="linear")
    yield case("resize_cubic", "Resize", [floats(1, 16, 64, 64)], [None, twice], mode="cubic")
    bytes_ = ints(0, 255, 1, 3, 256, 256, dtype="uint8")
    yield case("resize_bytes", "Resize", [bytes_], [None, twice], mode="linear")
    for mode in ["bilinear", "nearest", "bicubic"]:
        yield case(f"grid_{mode}", "GridSample", [image, floats(1, 64, 64, 2) * 0.5], mode=mode, opset=16)
    yield case("grid_of_colours", "GridSample", [floats(1, 3, 64, 64), floats(1, 128, 128, 2) * 0.5], opset=16)
    yield case("affine_grid", "AffineGrid", [floats(1, 2, 3)], [np.array([1, 3, 256, 256])], opset=20)
    regions = (np.sort(RANDOM.random((100, 4)), -1) * 256).astype(np.float32)
    size = {"output_height": 7, "output_width": 7, "sampling_ratio": 2, "spatial_scale": 0.25}
    yield case("roi_align", "RoiAlign", [image, regions, np.zeros(100, np.int64)], **size)
    regions = np.concatenate([np.zeros((100, 1), np.float32), regions], 1)
    yield case("max_roi_pool", "MaxRoiPool", [image, regions], pooled_shape=[7, 7], spatial_scale=0.25)
    places = np.arange(32**3, dtype=np.int64).reshape(1, 32, 32, 32) * 4
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield case("max_unpool", "MaxUnpool", [floats(1, 32, 32, 32), places], **attributes)


def trees():
    """A classifier of 100 complete trees of depth 5, as gradient boosting exports it."""
    count, tests, nodes = 100, 31, 63
    each = list(range(nodes))
    listed = {
        "nodes_treeids": np.repeat(np.arange(count), nodes).tolist(), "nodes_nodeids": each * count,
        "nodes_featureids": ints(0, 20, count * nodes).tolist(), "nodes_values": floats(count * nodes).tolist(),
        "nodes_modes": (["BRANCH_LEQ"] * tests + ["LEAF"] * (nodes - tests)) * count,
        "nodes_truenodeids": [2 * i + 1 if i < tests else 0 for i in each] * count,
        "nodes_falsenodeids": [2 * i + 2 if i < tests else 0 for i in each] * count,
        "class_treeids": np.repeat(np.arange(count), nodes - tests).tolist(), "class_nodeids": each[tests:] * count,
        "class_ids": [0] * (count * (nodes - tests)), "class_weights": floats(count * (nodes - tests)).tolist(),
        "classlabels_int64s": [0, 1], "post_transform": "LOGISTIC", "domain": "ai.onnx.ml"}
    for rows in [1, 1000]:
        yield case(f"trees_{rows}", "TreeEnsembleClassifier", [floats(rows, 20)], outputs=2, **listed)


def model_of(op, inputs, constants, outputs, opset, attributes):
    """The model of a case, and its inputs by name."""
    feeds = {f"x{i}": value for i, value in enumerate(inputs)}
    names = list(feeds) + ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    results = [f"y{i}" for i in range(outputs)]
    dtype = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)],
        "case",
        [helper.make_tensor_value_info(k, dtype(v.dtype), v.shape) for k, v in feeds.items()],
        [helper.make_empty_tensor_value_info(name) for name in results],
        [numpy_helper.from_array(c, f"c{i}") for i, c in enumerate(constants) if c is not None],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True), feeds


def runtime_ms(path, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(12):
        begin = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def optc_ms(optc, path, feeds):
    np.savez(path.with_suffix(".npz"), **feeds)
    command = [optc, "bench", path, "--input", path.with_suffix(".npz"), "--seconds", "0.3", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)["latency_ms"]["min"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("optc")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--limit", type=float, default=3)
    args = parser.parse_args()
    above = 0
    for group in [pairs, functions, along_axes, moves, samples, trees]:
        for name, *rest in group():
            if args.names and not any(part in name for part in args.names):
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "case.onnx"
                model, feeds = model_of(*rest)
                onnx.save(model, str(path))
                ours, theirs = optc_ms(args.optc, path, feeds), runtime_ms(path, feeds)
            mark = " above" if ours > args.limit * theirs else ""
            above += bool(mark)
            print(f"{name:24} optc {ours:8.3f}  onnxruntime {theirs:8.3f}  {ours / theirs:6.2f}{mark}", flush=True)
    print(f"{above} above {args.limit:g}")


if __name__ == "__main__":
    main()
