#!/usr/bin/env python3
"""Lists the kernels of models that are far from what the machine can do.

    python3 rooflines.py OPTC MODEL ... [--inputs FOLDER] [--share 0.02] [--roof 0.6]

For each model `optc explain --measure` runs it on one thread and compares each kernel with the least time that its
operations and bytes would take. Kernels that take at least --share of the model's time below --roof of it have a line:
the model, the kernel, its share, what bounds it, how much of that bound it reaches, and its first ONNX node. The last
line counts the models, the kernels, and those that are listed. Inputs come from FOLDER/NAME/inputs.npz where that is
there. Shapes are those of the inputs, or open dims are 1.
"""

import argparse
import json
import subprocess
from pathlib import Path


def measured(optc, model, inputs):
    """The kernels of a model, by their best of three measurements; none where they cannot be measured."""
    command = [optc, "explain", model, "--measure", "--json"]
    if inputs and inputs.exists():
        command += ["--input", str(inputs)]
    tries = []
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{model}: {done.stderr.strip()}")
            return []
        tries.append(json.loads(done.stdout)["measured"])
    return [min(same, key=lambda kernel: kernel["measured_us"]) for same in zip(*tries)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("optc")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--roof", type=float, default=0.6)
    args = parser.parse_args()
    kernels = listed = 0
    print("| model | kernel | us | of the model % | bound by | of it % | node |\n|---|---|---|---|---|---|---|")
    for model in args.models:
        name = Path(model).stem
        lines = measured(args.optc, model, args.inputs and args.inputs / name / "inputs.npz")
        total = sum(line["measured_us"] for line in lines)
        kernels += len(lines)
        for line in lines:
            share = line["measured_us"] / total
            if share >= args.share and line["roofline"] < args.roof:
                listed += 1
                node = (line["nodes"] or ["-"])[0]
                cells = [name, line["kernel"], f"{line['measured_us']:.1f}", f"{100 * share:.1f}", line["bound_by"]]
                print("| " + " | ".join([*cells, f"{100 * line['roofline']:.0f}", node]) + " |", flush=True)
    print(f"\n{len(args.models)} models, {kernels} kernels, {listed} listed")


if __name__ == "__main__":
    main()
