"""Loops, branches and functions, and graphs of very many nodes."""

import numpy as np
from onnx import TensorProto, helper

from . import Case, case, extent, floats, ints, kind, node, one, proto, value

BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64


def graph(nodes, inputs=(), outputs=(), initializers=()):
    """A body: inputs and outputs are triples of name, shape and dtype."""
    return helper.make_graph(
        nodes, "body", [value(*i) for i in inputs], [value(*o) for o in outputs], list(initializers)
    )


def loop_body(nodes, carried, scans=(), shape=None):
    """The body of a loop over one tensor, that goes on for ever."""
    inputs = [("i", [], INT64), ("go", [], BOOL), (carried, shape)]
    outputs = [("go_on", [], BOOL), (f"{carried}_next", shape), *((s, None) for s in scans)]
    return graph([node("Identity", "go", "go_on"), *nodes], inputs, outputs)


def trips(rng):
    """The number of trips of a loop."""
    return ints("trips", one(rng, [10**9, 10**6, 2**63 - 1, -1, 100, extent(rng)]))


ALWAYS = helper.make_tensor("always", BOOL, [], [True])


@kind
def loop_that_doubles(rng):
    double = one(rng, [
        [node("Concat", "a a", "a_next", axis=0)],
        [node("Tile", "a two", "a_next")],
        [node("Add", "a a", "b"), node("Concat", "a b", "a_next", axis=0)],
    ])  # fmt: skip
    body = loop_body(double, "a")
    nodes = [node("Loop", "trips always x", "y", body=body)]
    return case(nodes, [("x", [8])], initializers=[trips(rng), ALWAYS, ints("two", [2])])


@kind
def loop_that_scans(rng):
    n = one(rng, [1, 1000, 10**6])
    nodes = [node("Identity", "a", "a_next"), node("Add", "a a", "s")]
    body = loop_body(nodes, "a", ["s"])
    return case([node("Loop", "trips always x", "z y", body=body)], [("x", [n])], initializers=[trips(rng), ALWAYS])


@kind
def loop_without_end(rng):
    body = loop_body([node("Add", "a a", "a_next")], "a", shape=[8])
    names = one(rng, [["", "", "x"], ["trips", "", "x"], ["", "always", "x"]])
    return case([node("Loop", names, "y", body=body)], [("x", [8])], initializers=[trips(rng), ALWAYS])


@kind
def loops_in_loops(rng):
    depth = one(rng, [2, 3, 5, 10])
    count = ints("trips", one(rng, [1000, 10**5, 10**7]))
    body = loop_body([node("Cos", "a", "a_next")], "a", shape=[8])
    for _ in range(depth):
        body = loop_body([node("Loop", "trips always a", "a_next", body=body)], "a", shape=[8])
    return case([node("Loop", "trips always x", "y", body=body)], [("x", [8])], initializers=[count, ALWAYS])


@kind
def loop_over_a_sequence(rng):
    kind_of = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    insert = [node("SequenceInsert", "a x", "a_next")]
    if rng.random() < 0.5:
        insert = [node("ConcatFromSequence", "a", "j", axis=0), node("SequenceInsert", "a j", "a_next")]
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), *insert], "body",
        [value("i", [], INT64), value("go", [], BOOL), helper.make_value_info("a", kind_of)],
        [value("go_on", [], BOOL), helper.make_value_info("a_next", kind_of)],
    )  # fmt: skip
    nodes = [node("SequenceConstruct", "x", "s"), node("Loop", "trips always s", "r", body=body)]
    nodes.append(node("ConcatFromSequence", "r", "y", axis=0))
    return case(nodes, [("x", [one(rng, [1, 10_000])])], initializers=[trips(rng), ALWAYS])


@kind
def loop_over_strings(rng):
    body = graph(
        [node("Identity", "go", "go_on"), node("StringConcat", "a a", "a_next")],
        [("i", [], INT64), ("go", [], BOOL), ("a", [1], TensorProto.STRING)],
        [("go_on", [], BOOL), ("a_next", [1], TensorProto.STRING)],
    )
    text = helper.make_tensor("s", TensorProto.STRING, [1], [b"hostile"])
    nodes = [node("Loop", "trips always s", "y", body=body)]
    return case(nodes, initializers=[text, trips(rng), ALWAYS], dtype=TensorProto.STRING)


@kind
def scan(rng):
    n, width = one(rng, [(10**6, 1), (10, 10**6), (10**5, 100)])
    big = [node("Identity", "s", "s_next"), node("Expand", "e wide", "o")]
    body = graph(big, [("s", [1]), ("e", [1])], [("s_next", [1]), ("o", None)])
    make = node("ConstantOfShape", "many", "x")
    constants = [ints("wide", [width]), ints("many", [n, 1]), floats("zero", [0.0])]
    attributes = {"num_scan_inputs": one(rng, [1, 1, 1, 0, 2, -1, 2**40])}
    return case([make, node("Scan", "zero x", "t y", body=body, **attributes)], initializers=constants)


@kind
def deep_branches(rng):
    # Protobuf itself has a limit of 100 messages, three to a branch; `deep_messages` goes beyond.
    depth = one(rng, [5, 10, 20, 30])
    wrong = [node("Cos", "x", "r")] if rng.random() < 0.7 else [node("Cos", "nowhere", "r")]
    body = graph(wrong, [], [("r", None)])
    for _ in range(depth):
        other = graph([node("Identity", "x", "r")], [], [("r", None)])
        body = graph([node("If", "c", "r", then_branch=body, else_branch=other)], [], [("r", None)])
    nodes = [node("If", "c", "y", then_branch=body, else_branch=other)]
    return case(nodes, [("c", [], BOOL), ("x", [3])])


@kind
def branches_that_double(rng):
    depth = one(rng, [8, 12, 15])
    body = graph([node("Cos", "x", "r")], [], [("r", None)])
    for _ in range(depth):
        body = graph([node("If", "c", "r", then_branch=body, else_branch=body)], [], [("r", None)])
    return case([node("If", "c", "y", then_branch=body, else_branch=body)], [("c", [], BOOL), ("x", [3])])


@kind
def condition_of_the_wrong_kind(rng):
    body = graph([node("Cos", "x", "r")], [], [("r", None)])
    dtype, shape = one(rng, [(TensorProto.FLOAT, []), (BOOL, [2]), (BOOL, [0]), (TensorProto.STRING, []), (INT64, [])])
    nodes = [node("If", "c", "y", then_branch=body, else_branch=body)]
    feeds = {"x": np.ones(3, np.float32), "c": np.ones(shape, bool if dtype == BOOL else np.float32)}
    return case(nodes, [("c", shape, dtype), ("x", [3])], feeds=feeds)


def function(name, nodes, calls="hostile"):
    """A function of one input and one output."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(calls, 1)]
    return helper.make_function(calls, name, ["a"], ["b"], nodes, imports)


@kind
def functions_that_call_themselves(rng):
    rounds = one(rng, [1, 2, 3])
    call = lambda to: node(f"f{to % rounds}", "a", "b", domain="hostile")
    functions = [function(f"f{i}", [call(i + 1)]) for i in range(rounds)]
    return case([node("f0", "x", "y", domain="hostile")], [("x", [3])], functions=functions)


@kind
def functions_that_multiply(rng):
    depth, width = one(rng, [(30, 2), (10, 10), (60, 2), (5, 100), (300, 1), (5000, 1)])
    functions = [function("f0", [node("Cos", "a", "b")])]
    for i in range(1, depth):
        names = ["a", *(f"v{j}" for j in range(width - 1)), "b"]
        calls = [node(f"f{i - 1}", names[j], names[j + 1], domain="hostile") for j in range(width)]
        functions.append(function(f"f{i}", calls))
    return case([node(f"f{depth - 1}", "x", "y", domain="hostile")], [("x", [3])], functions=functions)


@kind
def long_chain(rng):
    n = one(rng, [2000, 20_000, 100_000])
    op = one(rng, ["Cos", "Relu", "Add", "Transpose", "Concat", "Cast", "Reshape", "Mul"])
    make = {
        "Add": lambda a, b: node("Add", [a, "one"], b),
        "Mul": lambda a, b: node("Mul", [a, a], b),
        "Transpose": lambda a, b: node("Transpose", a, b, perm=[1, 0]),
        "Concat": lambda a, b: node("Concat", [a, "row"], b, axis=0),
        "Cast": lambda a, b: node("Cast", a, b, to=one(rng, [1, 11, 10])),
        "Reshape": lambda a, b: node("Reshape", [a, "shape"], b),
    }.get(op) or (lambda a, b: node(op, a, b))
    nodes = [make(f"v{i}", f"v{i + 1}") for i in range(n)]
    nodes.append(node("Identity", f"v{n}", "y"))
    constants = [floats("one", [1.0]), floats("row", np.ones([1, 4])), ints("shape", [4, 4])]
    return case(nodes, [("v0", [4, 4])], initializers=constants)


@kind
def wide_fan(rng):
    n = one(rng, [1000, 4000, 20_000])
    op = one(rng, ["Sum", "Concat", "Max", "Mean", "SequenceConstruct"])
    nodes = [node("Cos", "x", f"v{i}") for i in range(n)] if rng.random() < 0.5 else []
    names = [f"v{i}" for i in range(n)] if nodes else ["x"] * n
    attributes = {"axis": 0} if op == "Concat" else {}
    if op == "SequenceConstruct":
        nodes += [node(op, names, "s"), node("SequenceLength", "s", "y")]
        return case(nodes, [("x", [4])], dtype=INT64)
    return case([*nodes, node(op, names, "y", **attributes)], [("x", [4])])


@kind
def many_constants(rng):
    n = one(rng, [5000, 50_000])
    constants = [floats(f"c{i}", [1.0, 2.0]) for i in range(n)]
    used = n if rng.random() < 0.3 else 100
    nodes = [node("Add", [f"v{i}", f"c{i}"], f"v{i + 1}") for i in range(used)]
    return case([*nodes, node("Identity", f"v{used}", "y")], [("v0", [2])], initializers=constants)


@kind
def graph_that_forks(rng):
    """Every step reads the one before twice, in two ways: as many paths as two to the number of steps."""
    n, op = one(rng, [40, 1000, 10_000]), one(rng, ["Add", "Mul", "Sub", "MatMul"])
    nodes = []
    for i in range(n):
        nodes += [node("Relu", f"v{i}", f"a{i}"), node("Neg", f"v{i}", f"b{i}"), node(op, f"a{i} b{i}", f"v{i + 1}")]
    return case([*nodes, node("Identity", f"v{n}", "y")], [("v0", [4, 4])])


@kind
def cycle(rng):
    n = one(rng, [1, 2, 1000])
    nodes = [node("Cos", f"v{i}", f"v{(i + 1) % n}") for i in range(n)]
    return case([*nodes, node("Add", "x v0", "y")], [("x", [3])])


@kind
def names_twice(rng):
    nodes = [node("Cos", "x", "y"), node("Sin", "x", "y")]
    inputs = [("x", [3])] * one(rng, [1, 2])
    constants = [floats("x", [1.0])] * one(rng, [0, 1, 2])
    return Case(proto(nodes, inputs, ["y"] * one(rng, [1, 2]), constants).SerializeToString())


@kind
def nothing_there(rng):
    nodes = one(
        rng, [[], [node("Cos", "nowhere", "y")], [node("", "x", "y")], [node("Cos", "", "y")], [node("Cos", "x", "")]]
    )
    return Case(
        proto(nodes, one(rng, [[], [("x", [3])], [("", [3])]]), one(rng, [[], ["y"], [""]])).SerializeToString()
    )
