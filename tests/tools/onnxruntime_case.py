"""What the cases of ONNX Runtime's own ops are made of: see make_onnxruntime_ops.py."""

import dataclasses

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

DOMAIN = "com.microsoft"


@dataclasses.dataclass
class Case:
    """A model, its inputs by name for each run, and the model that gives its results where that is another one."""

    model: onnx.ModelProto
    steps: list
    reference: onnx.ModelProto = None
    may_be_nan: bool = False


CASES = {}


def floats(case, *shape, scale=1.0):
    """Normal numbers, the same for each name of a case and shape in every run."""
    seed = sum(ord(c) * 31**i for i, c in enumerate(case)) + sum(shape)
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def integers(case, *shape):
    """Bytes of any value, or of two integers each."""
    return (np.abs(floats(case, *shape, scale=1e4)).astype(np.int64) % 256).astype(np.uint8)


def ints(*values):
    """A tensor of small integers, of which ONNX Runtime takes lengths and masks."""
    return np.array(values, np.int32)


def made(case, nodes, fed, outputs, constants, dims):
    """A model of nodes: `fed` are its inputs, `constants` its initializers."""
    info = lambda name, v: helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(v.dtype), dims.get(name, v.shape))
    initializers = [numpy_helper.from_array(v, name) for name, v in constants.items()]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs if name]
    graph = helper.make_graph(nodes, case, [info(name, v) for name, v in fed.items()], results, initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def add(case, op, inputs, outputs=("y",), constants=(), domain=DOMAIN, dims=None, like=None, may_be_nan=False,
        **attributes):
    """A case of one node: `inputs` by name, None for one that is absent; those in `constants` are initializers.

    `dims` gives named dims for the inputs that have them; all else is fixed. `like` is a list of nodes on the same
    inputs that give the results, for what ONNX Runtime has only on other machines.
    """
    names = [name if value is not None else "" for name, value in inputs.items()]
    node = helper.make_node(op, names, list(outputs), name=case, domain=domain, **attributes)
    fed = {name: v for name, v in inputs.items() if v is not None and name not in constants}
    kept = {name: inputs[name] for name in constants if inputs.get(name) is not None}
    model, reference = (made(case, nodes, fed, outputs, kept, dims or {}) if nodes else None
                        for nodes in [[node], like])
    assert case not in CASES, case
    CASES[case] = Case(model, [fed], reference, may_be_nan)


def run(model, fed):
    """What ONNX Runtime gives, with the nodes as they are written."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([o.name for o in session.get_outputs()], fed)
