#!/usr/bin/env python3
"""Checks that what optc writes as ONNX is valid, keeps names, opset and size, and means what the original means.

    python3 check_export.py OPTC MODEL.onnx ... [--inputs FOLDER] [--int8] [--verbose]

needs numpy, onnx and onnxruntime. Each model is written after several pipelines, with `--int8` also by `optc quantize`.
What is written must

- pass `onnx.checker` in full, with strict shape inference wherever the original passes that,
- give in ONNX Runtime what the original gives there, to 1e-3 of the largest magnitude in an output, or twice what the
  runtime's own optimizations change there; both run without them. An int8 model gives what optc itself computes from
  the same file, to 5e-2 or to what its integers cost: a value at the edge of two steps takes either,
- have the names of the original's inputs and outputs, and after no pass those of all its nodes and values but for
  constants, `Identity` and `Dropout`, and what an `Identity` passes on to an output,
- be no larger than 1.02 times the original.

The inputs are those of FOLDER/NAME/inputs.npz, or seeded noise. Prints one line a case; the exit status is 1 where one
fails.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as rt

KEPT = "infer-types,fold-constants{quantized=keep},infer-types,dce,decompose,canonicalize,cse,dce"
PIPELINES = {
    "none": ["--passes", ""],
    "default": [],
    "algebra": ["--passes", f"{KEPT},fold-batch-norm,recompose,simplify-algebra,{KEPT}"],
}
TOLERANCE = 1e-3
INT8_TOLERANCE = 5e-2
MOST_GROWTH = 1.02
SMALL = 4096  # bytes that a model may grow by in any case: a small one is all names
OPEN_DIM = 2  # what a dim that the model leaves open becomes
DROPPED = ("Constant", "Identity", "Dropout")  # what has no place of its own in the graph


def session(path, level=rt.GraphOptimizationLevel.ORT_DISABLE_ALL):
    options = rt.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    return rt.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def inputs(model, folder, name):
    if folder:
        return dict(np.load(os.path.join(folder, name, "inputs.npz")))
    rng = np.random.default_rng(0)
    shapes = {i.name: [d if isinstance(d, int) else OPEN_DIM for d in i.shape] for i in model.get_inputs()}
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def pinned(model, values):
    """The options that give open inputs the shapes of samples: what a layer costs is asked of closed ones."""
    is_open = [i.name for i in model.get_inputs() if not all(isinstance(d, int) for d in i.shape)]
    shapes = [f"{name}:{'x'.join(map(str, values[name].shape))}" for name in is_open]
    return [word for shape in shapes for word in ("--shape", shape)]


def worst_error(expected, found):
    """The largest error relative to the largest magnitude of its output."""
    pairs = [(np.asarray(e, np.float64), np.asarray(f, np.float64)) for e, f in zip(expected, found, strict=True)]
    errors = [np.abs(e - f).max() / max(np.abs(e).max(), 1e-30) for e, f in pairs if e.size]
    return max(errors, default=0.0)


def validity(path):
    """What the checker and shape inference say against a model: nothing, or their complaints by name."""
    complaints = {}
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as e:  # the package has several kinds
        complaints["checker"] = str(e).strip().splitlines()[0]
    try:
        onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, check_type=True)
    except Exception as e:
        complaints["inference"] = str(e).strip().splitlines()[0]
    return complaints


def names(graph, found=None):
    """Names of nodes and of values, those of subgraphs included."""
    nodes, values = found = found or (set(), set())
    values.update(t.name for t in graph.initializer)
    outputs = {o.name for o in graph.output}
    passed_on = {n.input[0] for n in graph.node if n.op_type == "Identity" and n.output[0] in outputs}
    for node in graph.node:
        if node.op_type not in DROPPED:
            nodes.add(node.name)
            values.update(set(node.output) - passed_on)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names(attribute.g, found)
    for shared in found:
        shared.discard("")
    return found


def lost(original, exported):
    """The names of nodes, and of values that nodes compute, that an exported model lacks."""
    (nodes, values), (kept_nodes, kept_values) = names(original.graph), names(exported.graph)
    constants = {t.name for t in original.graph.initializer}
    return nodes - kept_nodes, values - kept_values - constants, constants - kept_values


def standard(model):
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def own_outputs(optc, path, values, folder):
    """What optc computes from a model."""
    given, results = os.path.join(folder, "in.npz"), os.path.join(folder, "out.npz")
    np.savez(given, **values)
    subprocess.run([optc, "run", path, "--input", given, "--output", results], check=True, capture_output=True)
    return dict(np.load(results))


def check(optc, path, case, args):
    """Writes and checks one case; returns what is wrong and what is worth a line."""
    name = os.path.basename(path).removesuffix(".onnx")
    original, source = session(path), onnx.load(path)
    values, wrong = inputs(original, args.inputs, name), []
    with tempfile.TemporaryDirectory() as folder:
        exported = os.path.join(folder, "exported.onnx")
        if case == "int8":
            calib = os.path.join(folder, "calib.npz")
            np.savez(calib, **values)
            closed = os.path.join(folder, "closed.onnx")
            pin = [optc, "opt", path, "--passes", "", "-o", closed, *pinned(original, values)]
            subprocess.run(pin, check=True, capture_output=True)
            how = [optc, "quantize", closed, "--calib", calib, "-o", exported]
        else:
            how = [optc, "opt", path, *PIPELINES[case], "-o", exported]
        done = subprocess.run(how, capture_output=True, text=True)
        if done.returncode:
            return [done.stderr.strip()], ""
        complaints, before = validity(exported), validity(path)
        wrong += [f"{what}: {text}" for what, text in complaints.items() if what not in before]
        model, written = session(exported), onnx.load(exported)
        ends = lambda m: ([i.name for i in m.get_inputs()], [o.name for o in m.get_outputs()])
        if ends(model) != ends(original):
            wrong.append(f"inputs and outputs are {ends(model)}, expected {ends(original)}")
        found = model.run(None, values)
        if case == "int8":
            own = own_outputs(optc, exported, values, folder)
            expected = [own[o.name] for o in model.get_outputs()]
            tolerance = max(INT8_TOLERANCE, worst_error(original.run(None, values), expected))
        else:
            expected = original.run(None, values)
            optimized = session(path, rt.GraphOptimizationLevel.ORT_ENABLE_ALL).run(None, values)
            tolerance = max(TOLERANCE, 2 * worst_error(expected, optimized))
        error = worst_error(expected, found)
        if not error <= tolerance:
            wrong.append(f"an output is off by {error:.1e}")
        sizes = os.path.getsize(path), os.path.getsize(exported)
    if sizes[1] > sizes[0] * MOST_GROWTH + SMALL:
        wrong.append(f"{sizes[1]} bytes instead of {sizes[0]}")
    gone = lost(source, written)
    if case == "none" and (gone[0] or gone[1]):
        wrong.append(f"{len(gone[0])} names of nodes and {len(gone[1])} of values are lost")
    if args.verbose:
        print(*[f"    lost: {sorted(which)[:6]}" for which in gone if which], sep="\n")
    opsets = f"opset {standard(source)} -> {standard(written)}"
    counts = ", ".join(str(len(which)) for which in gone)
    return wrong, f"{error:.1e}  {sizes[1] / sizes[0]:.3f}  {opsets}  lost {counts}"


def main(args):
    failed = False
    for path in args.models:
        for case in [*PIPELINES, *(["int8"] if args.int8 else [])]:
            wrong, line = check(args.optc, path, case, args)
            failed |= bool(wrong)
            print(f"{'FAILED' if wrong else 'ok'}  {os.path.basename(path)}  {case}  {line}", flush=True)
            for text in wrong:
                print(f"    {text}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("optc")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--inputs")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    sys.exit(main(parser.parse_args()))
