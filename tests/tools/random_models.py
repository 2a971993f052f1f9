#!/usr/bin/env python3
"""Runs random models of many ops in optc and in ONNX Runtime, and prints where they differ.

    python3 random_models.py OPTC [--count 2000] [--first 0] [--seed 1] [--nodes 6] [--passes O2] [--keep FOLDER]

A model has up to `--nodes` nodes (see `random_ops.py`), each of which ONNX Runtime accepts, run without its own
optimizations. All values are outputs. Integers must be equal; floats close by the dtype's precision and the largest
magnitude, with NaN and infinities in the same places. What the standard leaves open, and where ONNX Runtime is known to
do something else than the standard, is not drawn; `random_ops.py` says where. The models that differ are kept in FOLDER
with their inputs and ONNX Runtime's outputs. The exit status is 1 where there are any. Needs: numpy, onnx, onnxruntime.
"""

import argparse
import collections
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as rt
from onnx import helper, numpy_helper
from random_ops import MAKERS, ONNX, Draw

OPSET = 21
TOLERANCE = {"float32": 5e-4, "float64": 1e-9, "float16": 4e-3}
MOST_ELEMENTS = 100_000


def model_of(draw, outputs):
    def info(name):
        return helper.make_tensor_value_info(name, ONNX[draw.values[name].dtype], draw.values[name].shape)

    outputs = [helper.make_tensor_value_info(n, ONNX[draw.values[n].dtype], None) if n in draw.values
               else onnx.ValueInfoProto(name=n) for n in outputs]  # fmt: skip
    constants = [numpy_helper.from_array(a, n) for n, a in draw.constants.items()]
    graph = helper.make_graph(draw.nodes, "random", [info(n) for n in draw.inputs], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def run_onnxruntime(draw, outputs):
    options = rt.SessionOptions()
    options.graph_optimization_level = rt.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = rt.InferenceSession(model_of(draw, outputs).SerializeToString(), options)
    return session.run(outputs, draw.inputs)


def grown(seed, nodes):
    """A random model: nodes are added one by one, and taken back where ONNX Runtime refuses them."""
    draw = Draw(np.random.default_rng(seed))
    for _ in range(nodes):
        before = dict(draw.values), dict(draw.inputs), dict(draw.constants), list(draw.nodes)
        try:
            draw.pick(MAKERS)(draw)
            new = [name for node in draw.nodes[len(before[3]) :] for name in node.output]
            with np.errstate(all="ignore"):
                results = run_onnxruntime(draw, new) if new else []
            if any(not isinstance(a, np.ndarray) or a.size > MOST_ELEMENTS or a.dtype not in ONNX for a in results):
                raise ValueError("not an ordinary tensor")
            draw.values.update(zip(new, results))
        except Exception:  # noqa: BLE001  whatever ONNX Runtime, onnx or numpy refuse is not a model
            draw.values, draw.inputs, draw.constants, draw.nodes = before
    return draw


def difference(expected, found, bound):
    """What differs between two arrays, in words; none where they agree within the bound."""
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return f"{found.dtype}{list(found.shape)} for {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind != "f":
        return None if np.array_equal(expected, found) else f"{int((expected != found).sum())} of {found.size} integers"
    e, f = expected.astype(np.float64), found.astype(np.float64)
    if not np.array_equal(np.isnan(e), np.isnan(f)):
        return "NaN elsewhere"
    usual = np.isfinite(e) & np.isfinite(f)
    if not np.array_equal(e[~usual & ~np.isnan(e)], f[~usual & ~np.isnan(e)]):
        return "infinities elsewhere"
    off = np.abs(e[usual] - f[usual])
    top = np.abs(e[usual]).clip(1e-2) + (np.median(np.abs(e[usual])) if off.size else 0)
    worst = float((off / top).max()) if off.size else 0.0
    return f"off by {worst:.1e}" if worst > bound else None


def run_optc(arguments, folder, draw):
    outputs = [name for node in draw.nodes for name in node.output]
    onnx.save(model_of(draw, outputs), str(folder / "model.onnx"))
    np.savez(folder / "inputs.npz", **draw.inputs)
    command = [arguments.optc, "run", "model.onnx", "-p", arguments.passes, "-o", "found.npz", "--threads", "1"]
    command += ["--input", "inputs.npz"] if draw.inputs else []
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
    return dict(np.load(folder / "found.npz")), None


def first_difference(draw, found):
    """The first node whose result differs, and how. Floats are as exact as the coarsest that the model has."""
    bound = max([TOLERANCE.get(str(a.dtype), 0) for a in draw.values.values()])
    for node in draw.nodes:
        for name in node.output:
            words = difference(draw.values[name], found[name], bound) if name in found else "no such output"
            if words:
                return node, words
    return None, None


class Tally:
    """What was seen so far; lines are printed as they come."""

    def __init__(self):
        self.ops, self.kinds = collections.Counter(), collections.Counter()


def one(arguments, i, tally):
    """Makes the model with number `i`, runs it in both, and prints a line if they differ."""
    draw = grown([arguments.seed, i], arguments.nodes)
    if not draw.nodes:
        return
    tally.ops.update(node.op_type for node in draw.nodes)
    with tempfile.TemporaryDirectory() as folder:
        found, refused = run_optc(arguments, pathlib.Path(folder), draw)
        node, words = (draw.nodes[-1], refused) if refused else first_difference(draw, found)
        if words is None:
            return
        tally.kinds["differences"] += 1
        print(f"{i}: {node.op_type}: {words}", flush=True)
        if arguments.keep:
            kept = arguments.keep / f"{arguments.seed}_{i}"
            kept.mkdir(parents=True, exist_ok=True)
            for file in pathlib.Path(folder).iterdir():
                (kept / file.name).write_bytes(file.read_bytes())
            np.savez(kept / "expected.npz", **{n: draw.values[n] for node in draw.nodes for n in node.output})


def worker(arguments, first, pipe):
    """The models from `first` on, with a message after each: the process may end any time if ONNX Runtime crashes."""
    rt.set_default_logger_severity(4)
    for i in range(first, arguments.count):
        tally = Tally()
        one(arguments, i, tally)
        pipe.send((i, tally.ops, tally.kinds))
    pipe.send(None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optc", type=lambda p: str(pathlib.Path(p).resolve()))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--passes", default="O2")
    parser.add_argument("--keep", type=pathlib.Path)
    arguments = parser.parse_args()
    tally, at, going = Tally(), arguments.first, True
    while going:
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=worker, args=(arguments, at, there))
        process.start()
        there.close()
        try:
            while going := (message := here.recv()) is not None:
                at = message[0] + 1
                tally.ops.update(message[1])
                tally.kinds.update(message[2])
        except EOFError:
            print(f"{at}: ONNX Runtime ended the process", flush=True)
            tally.kinds["crashes of ONNX Runtime"] += 1
            at, going = at + 1, at + 1 < arguments.count
        process.join()
    nodes = sum(tally.ops.values())
    print(f"{at - arguments.first} models, {nodes} nodes of {len(tally.ops)} ops: {dict(tally.kinds)}")
    return 1 if tally.kinds["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
