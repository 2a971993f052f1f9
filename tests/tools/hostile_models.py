#!/usr/bin/env python3
"""Checks that no model takes the machine down: writes hostile models and runs `optc` on each under limits.

    python3 hostile_models.py OPTC [--cases 1000] [--seed 1] [--keep FOLDER]        (needs: numpy, onnx)

Each model goes through `inspect`, `check`, `opt`, `compile` and `run`. What must hold: the exit status is one of those
that `optc --help` lists (no signal, no panic); what imports and compiles ends within 10 seconds, a run shortly after
its `--time-limit`; resident memory stays below `--memory-limit` and 256 MiB. Prints how often each status came up, the
slowest and the largest; the exit status is 1 where something does not hold. The models for which it does not stay in
the folder.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import hostile
import numpy as np

LIMIT = 2 << 30
SLACK = 256 << 20
# Address space, so that a machine survives what `--memory-limit` lets through.
ADDRESSES = 12 << 30
# Seconds: what a command may take, and when it is killed.
COMPILE, RUN, RUN_LIMIT, KILLED = 10, 20, 5, 60
COMMANDS = ["inspect", "check", "opt", "compile", "run"]


@dataclass
class Outcome:
    """How a command ended."""

    case: str
    command: str
    status: int
    killed: bool
    seconds: float
    resident: int
    message: str

    def violation(self):
        """What does not hold, or nothing."""
        if self.status < 0:
            return f"killed after {KILLED} s" if self.killed else f"ended by {signal.Signals(-self.status).name}"
        if self.status > 7:
            return f"exit status {self.status}"
        if self.seconds > (RUN if self.command == "run" else COMPILE):
            return f"took {self.seconds:.1f} s"
        if self.resident > LIMIT + SLACK:
            return f"took {self.resident >> 20} MiB"
        return None


def limit_process():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def arguments(optc, command, folder, limits):
    """The command line for the model in a folder."""
    out = {"opt": ["-o", "out.mlir"], "compile": ["-o", "out.optc"]}.get(command, [])
    if command == "run" and (folder / "inputs.npz").exists():
        out = ["--input", "inputs.npz"]
    given = [a for a in limits if command == "run" or not a.startswith("--time")]
    return [optc, command, "model.onnx", *out, *given]


def run(command_line, folder):
    """How it ended, as `Outcome` has it: status, whether it was killed, seconds, resident bytes, and why."""
    start = time.monotonic()
    with open(folder / "log.txt", "w+b") as log:
        process = subprocess.Popen(
            command_line, cwd=folder, stdout=subprocess.DEVNULL, stderr=log, preexec_fn=limit_process
        )
        killer = threading.Timer(KILLED, process.kill)
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        killed = not killer.is_alive()
        killer.cancel()
        # On a busy machine the time of the CPU counts; on one of many cores threads add to it.
        seconds = min(time.monotonic() - start, usage.ru_utime + usage.ru_stime)
        log.seek(max(0, log.tell() - 2000))
        lines = log.read().decode(errors="replace").strip().splitlines()
    return process.returncode, killed, seconds, usage.ru_maxrss << 10, reason(lines)


def reason(lines):
    """Which of the lines say why: a panic and what follows it, else the last."""
    at = next((i for i, line in enumerate(lines) if "panicked at" in line or "has overflowed" in line), None)
    return " ".join(lines[-1:] if at is None else lines[at : at + 2])[-300:]


def write(case, folder):
    """Writes the files of a case."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model)
    if isinstance(case.inputs, bytes):
        (folder / "inputs.npz").write_bytes(case.inputs)
    elif case.inputs is not None:
        np.savez(folder / "inputs.npz", **case.inputs)
    for name, data in case.files.items():
        (folder / name).write_bytes(data)


def try_case(index, args, limits, root):
    """Makes one case and runs every command on it; the folder stays where something does not hold."""
    make = hostile.KINDS[index % len(hostile.KINDS)]
    name = f"{index:05}-{make.__name__.rstrip('_')}"
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    write(make(np.random.default_rng([args.seed, index])), folder)
    outcomes = [Outcome(name, c, *run(arguments(args.optc, c, folder, limits), folder)) for c in args.commands]
    if not any(o.violation() for o in outcomes):
        shutil.rmtree(folder)
    return outcomes


def known_limits(optc):
    """The options that bound memory and time."""
    known = subprocess.run([optc, "run", "--help"], capture_output=True, text=True, check=True).stdout
    wanted = {"--memory-limit": f"{LIMIT >> 30}GiB", "--time-limit": str(RUN_LIMIT)}
    missing = [name for name in wanted if name not in known]
    if missing:
        print(f"note: this optc has no {', '.join(missing)}", file=sys.stderr)
    return [f"{name}={value}" for name, value in wanted.items() if name not in missing]


def report(outcomes):
    """Prints the summary; whether all holds."""
    wrong = [(o, o.violation()) for o in outcomes if o.violation()]
    for command in COMMANDS:
        counts = collections.Counter(o.status for o in outcomes if o.command == command)
        line = ", ".join(f"{status}: {n}" for status, n in sorted(counts.items()))
        print(f"{command:8} exit statuses  {line}")
    for title, key, unit in [("slowest", lambda o: o.seconds, "s"), ("largest", lambda o: o.resident / 2**20, "MiB")]:
        for o in sorted(outcomes, key=key, reverse=True)[:5]:
            print(f"{title}  {key(o):8.1f} {unit}  {o.command:8} {o.case}")
    for o, what in wrong:
        print(f"FAILED  {o.case}  {o.command}  {what}: {o.message}")
    print(f"{len({o.case for o in outcomes})} models, {len(outcomes)} commands, {len(wrong)} violations")
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("optc", type=os.path.abspath)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds whose names contain this")
    parser.add_argument("--commands", type=lambda text: text.split(","), default=COMMANDS)
    parser.add_argument("--keep", type=pathlib.Path, help="where models stay for which something does not hold")
    args = parser.parse_args()
    root = args.keep or pathlib.Path(tempfile.mkdtemp(prefix="hostile-"))
    limits = known_limits(args.optc)
    numbers = range(args.first, args.first + args.cases)
    numbers = [i for i in numbers if args.only in hostile.KINDS[i % len(hostile.KINDS)].__name__]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outcomes = [o for of_case in pool.map(lambda i: try_case(i, args, limits, root), numbers) for o in of_case]
    holds = report(outcomes)
    if not holds:
        print(f"the models are in {root}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
