#!/usr/bin/env python3
"""Checks that what `optc opt` writes as ONNX means in ONNX Runtime what the original means there.

    python3 check_export.py OPTC MODEL.onnx ...        (needs: numpy, onnxruntime)

Each model is written after several pipelines and run beside the original on the same seeded inputs, both without the
runtime's own optimizations. Prints one line a case; the exit status is 1 where an output is off by more than
1e-3 of the largest magnitude in it, or where the exported model does not load.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as rt

PIPELINES = {
    "none": "",
    "clean-up": "clean-up",
    "algebra": "clean-up,fold-batch-norm,recompose,simplify-algebra,clean-up",
}
TOLERANCE = 1e-3
OPEN_DIM = 2  # what a dim that the model leaves open becomes


def session(path):
    options = rt.SessionOptions()
    options.graph_optimization_level = rt.GraphOptimizationLevel.ORT_DISABLE_ALL
    return rt.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def inputs(model):
    rng = np.random.default_rng(0)
    shapes = {i.name: [d if isinstance(d, int) else OPEN_DIM for d in i.shape] for i in model.get_inputs()}
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def worst_error(expected, found):
    """The largest error relative to the largest magnitude of its output."""
    errors = [np.abs(e - f).max() / max(np.abs(e).max(), 1e-30) for e, f in zip(expected, found, strict=True)]
    return max(errors, default=0.0)


def main(optc, models):
    failed = False
    for path in models:
        original = session(path)
        values = inputs(original)
        expected = original.run(None, values)
        for name, passes in PIPELINES.items():
            with tempfile.TemporaryDirectory() as folder:
                exported = os.path.join(folder, "exported.onnx")
                subprocess.run([optc, "opt", path, "--passes", passes, "-o", exported], check=True)
                model = session(exported)
                same_names = [o.name for o in model.get_outputs()] == [o.name for o in original.get_outputs()]
                error = worst_error(expected, model.run(None, values))
            ok = same_names and error <= TOLERANCE
            failed |= not ok
            print(f"{'ok' if ok else 'FAILED'}  {os.path.basename(path)}  {name}  {error:.1e}")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
