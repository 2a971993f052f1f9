#!/usr/bin/env python3
"""Times optc beside ONNX Runtime and OpenVINO, alternating, and prints a table of the ratios.

    python3 compare_peers.py OPTC [MODEL ...] [--threads N] [--rounds R] [--seconds S] [--precision f32|bf16]
                             [--inputs FOLDER]

A MODEL is an ONNX file, or the name of one of the reference architectures (see architectures.py), which are all timed
when none is named. Inputs come from FOLDER/NAME/inputs.npz, keyed by input name, where that is there; else they are
random and unknown dims are 1. With bf16, optc and OpenVINO round the factors of products to bfloat16 and ONNX Runtime
is left out. In each round every engine runs the model for S seconds in a process of its own; a round's time is that of
the fastest run. The table has the median times over the rounds, and the median over the rounds of optc's time divided
by that of each peer in the same round: below 1 optc is faster. The last line is the geometric mean of optc's time by
that of the fastest peer. Needs numpy, onnx, onnxruntime and openvino; an engine that refuses a model is shown as such.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

PEERS = ["onnxruntime", "openvino"]


def random_input(shape, dtype):
    shape = [d if isinstance(d, int) and d > 0 else 1 for d in shape]
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(0).normal(0, 1, shape).astype(dtype)
    return np.ones(shape, dtype)


def value_of(name, shape, dtype, given):
    """The value that is given for an input, or a random one."""
    return given[name].astype(dtype) if name in given else random_input(shape, dtype)


def onnxruntime_run(model, threads, _precision, given):
    """A function that runs the model once in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    dtypes = {
        "tensor(float)": np.float32,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
        "tensor(uint8)": np.uint8,
    }
    values = {i.name: value_of(i.name, i.shape, dtypes[i.type], given) for i in session.get_inputs()}
    return lambda: session.run(None, values)


def openvino_run(model, threads, precision, given):
    """A function that runs the model once in OpenVINO."""
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        shape = [d.get_length() if d.is_static else 1 for d in port.partial_shape]
        value = value_of(port.get_any_name(), shape, port.element_type.to_dtype(), given)
        request.set_tensor(port, openvino.Tensor(np.ascontiguousarray(value)))
    return request.infer


def time_peer(engine, model, args):
    """Prints the fastest run in milliseconds."""
    given = dict(np.load(args.inputs)) if args.inputs else {}
    make = {"onnxruntime": onnxruntime_run, "openvino": openvino_run}[engine]
    run, seconds = make(model, args.threads, args.precision, given), args.seconds
    for _ in range(2):
        run()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or fastest == float("inf"):
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
    print(fastest * 1e3)


def peers(precision):
    """The engines that compute in a precision."""
    return PEERS if precision == "f32" else ["openvino"]


def measure(command, read):
    """What `read` makes of a command's last line; None and the reason where the command fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return None, (done.stderr.strip().splitlines() or ["no output"])[-1]
    return read(lines[-1]), None


def compare(model, inputs, args):
    """For each engine, on the arrays of a file or random ones, its time in each round, and why an engine refused."""
    common = ["--threads", str(args.threads), "--seconds", str(args.seconds), "--precision", args.precision]
    commands = {"optc": [args.optc, "bench", model, *common, "--json", *(["--input", inputs] if inputs else [])]}
    for peer in peers(args.precision):
        given = ["--inputs", inputs] if inputs else []
        commands[peer] = [sys.executable, __file__, args.optc, model, "--engine", peer, *common, *given]
    times, refused = {engine: [] for engine in commands}, {}
    for _ in range(args.rounds):
        for engine, command in commands.items():
            if engine in refused:
                continue
            read = (lambda line: json.loads(line)["latency_ms"]["min"]) if engine == "optc" else float
            value, reason = measure(command, read)
            if reason is None:
                times[engine].append(value)
            else:
                refused[engine] = reason
    return times, refused


def row(name, times):
    """The cells of a model's row, and optc's time by that of the fastest peer."""
    others = [engine for engine in times if engine != "optc"]
    ratios = {p: statistics.median(a / b for a, b in zip(times["optc"], times[p])) for p in others if times[p]}
    cells = [f"{statistics.median(of):.2f}" if of else "refused" for of in times.values()]
    cells += [f"{ratios[p]:.2f}" if p in ratios else "" for p in others]
    return [name, *cells], max(ratios.values(), default=None)


def main(args):
    import architectures

    others = peers(args.precision)
    header = ["model", "optc ms", *[f"{p} ms" for p in others], *[f"optc / {p}" for p in others]]
    print(
        f"threads {args.threads}, {args.precision}, {args.rounds} rounds of {args.seconds:g} s, fastest run of each\n"
    )
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    worst, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models or architectures.ARCHITECTURES:
            path, name = model, os.path.splitext(os.path.basename(model))[0]
            inputs = os.path.join(args.inputs or "", name, "inputs.npz")
            if model in architectures.ARCHITECTURES:
                path = os.path.join(folder, f"{model}.onnx")
                architectures.write(model, path)
            given = bool(args.inputs) and path == model and os.path.exists(inputs)
            times, refused = compare(path, inputs if given else None, args)
            for engine, reason in refused.items():
                print(f"{model}: {engine}: {reason}", file=sys.stderr)
            failed |= "optc" in refused
            if times["optc"]:
                cells, ratio = row(name, times)
                print(f"| {' | '.join(cells)} |", flush=True)
                worst += [ratio] if ratio else []
    if worst:
        print(f"\ngeometric mean of optc / fastest peer: {statistics.geometric_mean(worst):.2f}")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("optc")
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--inputs", metavar="FOLDER")
    parser.add_argument("--engine", choices=PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        time_peer(arguments.engine, arguments.models[0], arguments)
    else:
        sys.exit(main(arguments))
