"""Hostile models: a list of kinds, each a function that draws one model of it.

A kind takes a generator of random numbers and gives a `Case`. `KINDS` is filled by the modules of this folder:
`results` holds models whose values are too large, `windows` ops with hostile attributes, `control` loops, branches and
functions, `files` what is wrong in the file itself.
"""

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper, numpy_helper

KINDS = []

# Extents that break arithmetic, or are merely too many.
EDGES = [0, -1, -7, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -1e38, float("inf"), float("-inf"), float("nan")]
DTYPES = [
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.INT4, TensorProto.UINT16,
]  # fmt: skip


@dataclass
class Case:
    """A model (as bytes), its inputs (arrays, the bytes of a file, or none: random ones), and the files beside it."""

    model: bytes
    inputs: dict | bytes | None = None
    files: dict = field(default_factory=dict)


def kind(make):
    """Adds a kind, which is named like its function."""
    KINDS.append(make)
    return make


def one(rng, items):
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def large(rng):
    """An extent that makes a result of tens of megabytes to terabytes of `f32`."""
    return int(10 ** rng.uniform(7, 12))


def extent(rng):
    """An extent: large, or one that breaks arithmetic."""
    return large(rng) if rng.random() < 0.6 else one(rng, EDGES)


def ints(name, values):
    """An initializer of `i64`."""
    return numpy_helper.from_array(np.asarray(values, np.int64), name)


def floats(name, values):
    """An initializer of `f32`."""
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def value(name, shape, dtype=TensorProto.FLOAT):
    """The declaration of an input or output; a shape of `None` is left open."""
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op, inputs, outputs, **attributes):
    """A node, whose inputs and outputs are given as words of one string or as lists."""
    split = lambda names: names.split(" ") if isinstance(names, str) else names
    return helper.make_node(op, split(inputs) if inputs else [], split(outputs), **attributes)


def proto(nodes, inputs=(), outputs=("y",), initializers=(), opset=21, functions=(), dtype=TensorProto.FLOAT):
    """A model; inputs are pairs of a name and a shape (and a dtype), outputs are names."""
    inputs = [value(*i) for i in inputs]
    outputs = [o if not isinstance(o, str) else value(o, None, dtype) for o in outputs]
    graph = helper.make_graph(nodes, "hostile", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in {f.domain for f in functions}]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=list(functions))


def case(nodes, *args, feeds=None, files=None, **kwargs):
    """A case of what `proto` makes."""
    return Case(proto(nodes, *args, **kwargs).SerializeToString(), feeds, files or {})


from . import control, files, results, windows  # noqa: E402, F401: they fill `KINDS`
