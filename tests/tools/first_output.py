#!/usr/bin/env python3
"""How long after its start a process has the first output of an artifact, beside one inference in the steady state.

    optc compile model.onnx --native -o model.optc
    tests/tools/first_output.py target/release/optc model.optc...

For each artifact: the latency of a run (the least that `optc bench` finds, one thread); how much longer than that a
whole process of `optc run --trust` takes, from its start to its end; the same without `--trust`, which compiles the
graph. The best of --rounds processes each; the file is in the page cache, since it has been read before.
"""

import argparse
import json
import subprocess
import time


def wall_ms(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("optc")
    parser.add_argument("artifacts", nargs="+")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    print("| artifact | steady ms | machine code: longer by ms | compiled: longer by ms |\n|---|---|---|---|")
    for artifact in args.artifacts:
        bench = [args.optc, "bench", artifact, "--trust", "--seconds", "2", "--json"]
        steady = json.loads(subprocess.run(bench, check=True, capture_output=True).stdout)["latency_ms"]["min"]
        run = [args.optc, "run", artifact, "--threads", "1"]
        trusted = min(wall_ms(run + ["--trust"]) for _ in range(args.rounds)) - steady
        compiled = min(wall_ms(run) for _ in range(args.rounds)) - steady
        print(f"| {artifact} | {steady:.2f} | {trusted:.1f} | {compiled:.1f} |")


if __name__ == "__main__":
    main()
