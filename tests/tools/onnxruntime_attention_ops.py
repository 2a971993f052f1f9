"""Cases of ONNX Runtime's attentions: see make_onnxruntime_ops.py."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxruntime_case import CASES, DOMAIN, Case, add, floats, integers, ints, made, run


def shortened(named):
    """Inputs without the absent ones at the end."""
    named = dict(named)
    while named[list(named)[-1]] is None:
        named.popitem()
    return named


def attentions():
    heads, size, queries, keys = 2, 8, 4, 6
    q = floats("q", 2, queries, heads * size)
    k, v = floats("k", 2, keys, heads * size), floats("v", 2, keys, heads * 4)
    bias = floats("bias", heads * (2 * size + 4))
    padding = ints([1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1])
    scores = floats("scores", 1, heads, queries, keys)
    names = ["q", "k", "v", "bias", "padding", "scores", "past_k", "past_v"]

    def case(kind, values, outputs=("y",), **attributes):
        given = {"q": q, "k": k, "v": v, **values}
        named = shortened({name: given.get(name) for name in names})
        add(f"multi_head_attention{kind}", "MultiHeadAttention", named, outputs, num_heads=heads,
            constants=[name for name in named if name == "bias"], **attributes)

    case("", {})
    case("_bias", {"bias": bias})
    case("_scale", {"bias": bias}, scale=0.2)
    case("_padding", {"padding": padding})
    case("_padding_value", {"bias": bias, "padding": padding}, mask_filter_value=-3.0)
    case("_scores", {"scores": scores})
    case("_padding_and_scores", {"bias": bias, "padding": padding, "scores": scores})
    same = {"k": floats("k", 2, queries, heads * size), "v": floats("v", 2, queries, heads * size)}
    case("_causal", same, unidirectional=1)
    past = {"past_k": floats("pk", 2, heads, 3, size), "past_v": floats("pv", 2, heads, 3, size)}
    three = ("y", "present_k", "present_v")
    case("_past", {**same, **past}, three)
    case("_causal_past", {**same, **past}, three, unidirectional=1)
    case("_present", {"bias": bias}, three)

    # Masks of every rank, with rows that see nothing.
    each = ints([[1, 1, 0, 1, 0, 1], [0] * 6, [1] * 6, [0, 0, 0, 0, 0, 1]],
                [[1] * 6, [0, 1, 1, 1, 1, 1], [3, -2, 1, 0, 2, 1], [0, 1, 0, 1, 0, 1]])
    for kind, mask in [("lengths", ints(4, 6)), ("lengths_none", ints(0, 9)), ("lengths_long", ints(6, 1)),
                       ("bounds", ints(4, 5, 0, 4, 8, 0, 6, 12)), ("each", each), ("each_scores", each)]:
        more = {"scores": floats("scores", 2, 1, queries, keys)} if kind == "each_scores" else {}
        case(f"_{kind}", {"padding": mask, **more}, mask_filter_value=-32.0)
    lengths = {"q": ["N", "S", heads * size], "padding": ["N"]}
    case("_lengths_open", {"padding": ints(4, 6)}, dims=lengths)
    whole = {**same, **past}
    case("_past_padding", {**whole, "padding": ints([0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0])}, three)
    case("_past_lengths", {**whole, "padding": ints(7, 5)}, three)
    case("_past_each", {**whole, "padding": ints(*(each[:, :, :1] > 0) | np.tri(4, 7, 3, np.int32))}, three,
         unidirectional=1)
    case("_past_scores", {**whole, "scores": floats("scores", 1, heads, queries, 7)}, three)

    # Where a query sees nothing of what is before it, the lowest number stands for both masks.
    lowest = float(np.finfo(np.float32).min)
    left = ints([0, 0, 1, 1], [1, 1, 1, 1])
    for kind, value in [("", -10000.0), ("_lowest", lowest), ("_small", -3.0)]:
        case(f"_causal_padding{kind}", {**same, "padding": left}, unidirectional=1, mask_filter_value=value)
    case("_causal_scores", {**same, "scores": floats("scores", 2, 1, 4, 4)}, unidirectional=1)
    for rows in [keys, 2, 1]:
        short = {name: floats(name, 2, rows, heads * size) for name in ["k", "v"]}
        case(f"_causal_{rows}_keys", short, unidirectional=1)
    case("_causal_more_past", {"k": k, "v": floats("v", 2, keys, heads * size), **past}, three, unidirectional=1)
    hidden = np.where(np.arange(24).reshape(1, 1, 4, 6) % 5 == 0, -np.inf, scores[:, :1]).astype(np.float32)
    hidden[:, :, 2] = -np.inf
    case("_scores_infinite", {"scores": hidden}, may_be_nan=True)

    # Keys and values that are split already, and operands in one tensor, which ONNX Runtime has only on GPUs.
    split = {"k": floats("k", 2, heads, keys, size), "v": floats("v", 2, heads, keys, size)}
    case("_cross", split)
    case("_cross_bias", {**split, "bias": floats("bias", 3 * heads * size)})
    case("_cross_padding", {**split, "padding": padding})
    packed = floats("packed", 2, queries, heads, 3, size)
    pair = floats("pair", 2, keys, heads, 2, size)

    def parts(name, count, names):
        """Nodes that take the operands out of one."""
        nodes = [helper.make_node("Split", [name], [f"{n}_" for n in names], axis=3, num_outputs=count)]
        shape = helper.make_node("Constant", [], ["flat"], value_ints=[0, 0, heads * size])
        return [shape] + nodes + [helper.make_node("Reshape", [f"{n}_", "flat"], [n]) for n in names]

    mha = lambda inputs, outputs, **more: helper.make_node("MultiHeadAttention", inputs, outputs, domain=DOMAIN,
                                                           num_heads=heads, **more)
    one = parts("q", 3, ["a", "b", "c"])
    case("_packed", {"q": packed, "k": None, "v": None}, like=one + [mha(["a", "b", "c"], ["y"])])
    case("_packed_bias", {"q": packed, "k": None, "v": None, "bias": floats("bias", 3 * heads * size)}, three,
         like=one + [mha(["a", "b", "c", "bias"], three, unidirectional=1)], unidirectional=1)
    two = parts("k", 2, ["b", "c"])
    case("_packed_pair", {"k": pair, "v": None}, like=two + [mha(["q", "b", "c"], ["y"])])
    case("_packed_pair_padding", {"k": pair, "v": None, "padding": padding},
         like=two + [mha(["q", "b", "c", "", "padding"], ["y"])])


def projected():
    x, heads = floats("x", 2, 5, 16), 2
    weights, bias = floats("w", 16, 48, scale=0.3), floats("b", 48)
    padding = ints([1, 1, 1, 0, 0], [1, 1, 1, 1, 1])
    scores = floats("scores", 1, heads, 5, 5)
    names = ["x", "w", "b", "padding", "past", "scores"]
    both = ("y", "present")

    def case(kind, values, outputs=("y",), **attributes):
        given = {"x": x, "w": weights, "b": bias, **values}
        named = shortened({name: given.get(name) for name in names})
        add(f"attention{kind}", "Attention", named, outputs, constants=["w", "b"], num_heads=heads, **attributes)

    case("", {}, dims={"x": ["N", 5, 16]})
    case("_padding", {"padding": padding})
    case("_scores", {"padding": padding, "scores": scores}, scale=0.2)
    case("_causal", {}, unidirectional=1)
    case("_sizes", {"w": floats("w", 16, 40, scale=0.3), "b": floats("b", 40)}, qkv_hidden_sizes=[16, 16, 8])
    case("_no_bias", {"b": None})
    past = {"past": floats("past", 2, 2, heads, 3, 8)}
    for kind, mask in [("lengths", ints(3, 5)), ("lengths_one", ints(1, 4)), ("ends_and_starts", ints(3, 5, 0, 1)),
                       ("ends_and_starts_none", ints(4, 2, 2, 4)), ("ends_and_starts_all", ints(5, 9, 0, 0)),
                       ("bounds", ints(3, 5, 0, 5, 10, 0, 3, 8)), ("dummy", ints([0], [0])), ("dummy_one", ints([1])),
                       ("each", ints(*(np.arange(50).reshape(2, 5, 5) * 7 % 5 > 1)))]:
        case(f"_{kind}", {"padding": mask}, mask_filter_value=-32.0)
    case("_lengths_open", {"padding": ints(3, 5)}, dims={"x": ["N", "S", 16], "padding": ["N"]})
    case("_present", {}, both)
    case("_past", past, both, dims={"past": [2, "N", heads, "P", 8], "x": ["N", "S", 16]})
    case("_past_causal", past, both, unidirectional=1)
    case("_past_padding", {**past, "padding": ints([0, 0, 1, 1, 1, 1, 1, 1], [1] * 8)}, both, unidirectional=1)
    case("_past_lengths", {**past, "padding": ints(8, 4)}, both)
    case("_causal_padding", {"padding": ints([0, 0, 1, 1, 1], [1] * 5)}, unidirectional=1,
         mask_filter_value=float(np.finfo(np.float32).min))


def grouped():
    heads, groups, size = 4, 2, 16
    names = ["q", "k", "v", "past_k", "past_v", "last", "total", "cos", "sin", "at", "bias", "sink", "k_scale",
             "v_scale", "q_norm", "k_norm", "rows"]
    three = ("y", "present_k", "present_v")
    angles = floats("angles", 24, size // 2)
    rotary = {"cos": np.cos(angles), "sin": np.sin(angles)}

    def rows(count, batch, past, lengths=None, room=None):
        """Rows after a past in a cache of that size, or with room for more: the rest is zeros."""
        lengths = lengths or [past + count] * batch
        total = ints(max(max(lengths), count))
        given = {"q": floats("q", batch, count, heads * size), "k": floats("k", batch, count, groups * size),
                 "v": floats("v", batch, count, groups * size), "last": ints(*lengths) - 1, "total": total}
        for name in ["past_k", "past_v"] if room or past else []:
            cache = floats(name, batch, groups, room or past, size)
            for b, length in enumerate(lengths):
                cache[b, :, max(length - count, 0):] = 0
            given[name] = cache
        return given

    def case(kind, values, outputs=three, valid=None, **attributes):
        """`valid` says how many rows of each sequence are compared: others are padding, whose results may be any."""
        named = shortened({name: values.get(name) for name in names})
        name = f"group_query_attention{kind}"
        add(name, "GroupQueryAttention", named, outputs, num_heads=heads, kv_num_heads=groups,
            constants=[n for n in ["cos", "sin", "sink"] if named.get(n) is not None], **attributes)
        if valid:
            graph, count = CASES[name].model.graph, named["q"].shape[1]
            graph.node[0].output[0] = "all"
            is_row = (np.arange(count) < np.array(valid)[:, None])[:, :, None]
            for constant, value in {"is_row": is_row, "zero": np.float32(0)}.items():
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))
            graph.node.append(helper.make_node("Where", ["is_row", "all", "zero"], ["y"]))

    case("_prompt", rows(5, 2, 0))
    case("_prompt_short", rows(5, 2, 0, [5, 2]))
    case("_prompt_one", rows(1, 2, 0))
    case("_step", rows(1, 2, 4))
    case("_step_short", rows(1, 2, 4, [5, 3]))
    case("_step_room", rows(1, 2, 4, [5, 5], room=9))
    case("_step_room_short", rows(1, 2, 4, [3, 7], room=9))
    case("_prompt_room", rows(5, 2, 0, [5, 4], room=9))
    case("_chunk", rows(3, 1, 4))
    case("_chunk_room", rows(3, 1, 4, room=12))
    case("_chunk_short", rows(4, 1, 3, [6]) | {"total": ints(7)})
    case("_only_y", rows(3, 1, 0), ("y",))
    open_dims = {"q": ["N", "S", heads * size], "k": ["N", "S", groups * size], "v": ["N", "S", groups * size],
                 "past_k": ["N", groups, "P", size], "past_v": ["N", groups, "P", size], "last": ["N"]}
    case("_step_open", rows(1, 2, 4), dims=open_dims)
    case("_chunk_open", rows(3, 1, 4, room=12), dims=open_dims)
    every = {"prompt": rows(5, 2, 0, [5, 3]), "step": rows(1, 2, 4, [6, 5], room=8), "chunk": rows(3, 1, 4)}
    for form, given in every.items():
        valid = [5, 3] if form == "prompt" else None
        keys = max(int(given["total"][0]), 0)
        count, batch = given["q"].shape[1], given["q"].shape[0]
        bias = {"bias": floats("bias", batch, heads, count, keys)}
        sink = {"sink": floats("sink", heads)}
        case(f"_{form}_packed", {**given, "k": None, "v": None,
                                 "q": floats("qkv", batch, count, (heads + 2 * groups) * size)}, valid=valid)
        case(f"_{form}_scale", given, scale=0.3, valid=valid)
        case(f"_{form}_softcap", given, softcap=0.7, valid=valid)
        case(f"_{form}_window", given, local_window_size=2, valid=valid)
        case(f"_{form}_window_one", given, local_window_size=1, valid=valid)
        case(f"_{form}_window_wide", given, local_window_size=7, valid=valid)
        case(f"_{form}_both_ways", given, causal=0, valid=valid)
        case(f"_{form}_bias", {**given, **bias}, valid=valid)
        case(f"_{form}_bias_of_all", {**given, "bias": floats("bias", 1, 1, count, keys)}, softcap=0.7, valid=valid)
        case(f"_{form}_smooth", given, smooth_softmax=1, valid=valid)
        case(f"_{form}_sink", {**given, **sink}, valid=valid)
        case(f"_{form}_sink_and_smooth", {**given, **sink}, smooth_softmax=1, softcap=0.9, valid=valid)
        case(f"_{form}_sink_window_bias", {**given, **sink, **bias}, local_window_size=3, valid=valid)
        case(f"_{form}_rotary", {**given, **rotary}, do_rotary=1, valid=valid)
        case(f"_{form}_rotary_pairs", {**given, **rotary}, do_rotary=1, rotary_interleaved=1, valid=valid)
        at = np.arange(3, 3 + batch * count, dtype=np.int64).reshape(batch, count)
        case(f"_{form}_rotary_at", {**given, **rotary, "at": at * 5 % 11}, do_rotary=1, valid=valid)
    small = floats("angles", 24, 8)
    wide = {"q": floats("q", 1, 3, 2 * 32), "k": floats("k", 1, 3, 32), "v": floats("v", 1, 3, 32), "last": ints(2),
            "total": ints(3), "cos": np.cos(small), "sin": np.sin(small)}
    add("group_query_attention_rotary_part", "GroupQueryAttention",
        shortened({name: wide.get(name) for name in names}), three, num_heads=2, kv_num_heads=1, do_rotary=1)
    hidden = rows(2, 1, 2)
    hidden["bias"] = np.where(np.arange(8).reshape(1, 1, 2, 4) < 5, -np.inf, 0.5).astype(np.float32)
    case("_nothing_seen", hidden)
    for kind, valid, lengths in [("", [2, 3], [4, 5]), ("_prompt", [2, 3], [2, 3]), ("_idle", [0, 1], [2, 3])]:
        given = rows(3, 2, 0, lengths, room=8) | {"rows": ints(*valid), "total": ints(8)}
        for name in ["past_k", "past_v"]:
            given[name] = floats(name, 2, groups, 8, size)
            for b in range(2):
                given[name][b, :, lengths[b] - valid[b]:] = 0
        case(f"_rows{kind}", {**given, **rotary}, valid=valid, do_rotary=1)


def decoders():
    """A block of a decoder as onnxruntime-genai writes it: a prompt, and then a token at a time.

    Activations are not rounded to integers, which ONNX Runtime does for an `accuracy_level` of 4.
    """
    hidden, heads, groups, size, inner, block = 32, 2, 1, 16, 64, 16
    constants, nodes = {}, []

    def node(op, inputs, outputs, domain=DOMAIN, **attributes):
        nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def product(name, x, k, n):
        constants[f"{name}.w"] = integers(name, n, k // block, block // 2)
        constants[f"{name}.s"] = (np.abs(floats(name, n * k // block)) * 0.02 + 0.01).astype(np.float32)
        constants[f"{name}.z"] = integers(name + "z", n * (-(-k // block // 2)))
        return node("MatMulNBits", [x, f"{name}.w", f"{name}.s", f"{name}.z"], [name], K=k, N=n, bits=4,
                    block_size=block, accuracy_level=1)

    angles = np.arange(32)[:, None] * 100.0 ** (-np.arange(size // 2) / (size // 2))
    constants |= {"words": floats("words", 11, hidden), "one": np.array([1], np.int64), "at_one": np.array(1, np.int64),
                  "cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    for name in ["norm_1", "norm_2", "norm_3"]:
        constants[name] = 1 + 0.1 * floats(name, hidden)
    node("ReduceSum", ["attention_mask", "one"], ["sum"], "", keepdims=0)
    node("Sub", ["sum", "one"], ["less"], "")
    node("Cast", ["less"], ["last"], "", to=TensorProto.INT32)
    node("Shape", ["attention_mask"], ["shape"], "")
    node("Gather", ["shape", "at_one"], ["length"], "", axis=0)
    node("Cast", ["length"], ["total"], "", to=TensorProto.INT32)
    x = node("Gather", ["words", "input_ids"], ["embedded"], "")
    y = node("SimplifiedLayerNormalization", [x, "norm_1"], ["normed"], "", axis=-1, epsilon=1e-5, stash_type=1)
    y = product("qkv", y, hidden, (heads + 2 * groups) * size)
    y = node("GroupQueryAttention", [y, "", "", "past.key", "past.value", "last", "total", "cos", "sin"],
             ["attended", "present.key", "present.value"], num_heads=heads, kv_num_heads=groups, do_rotary=1,
             local_window_size=6, scale=0.25)
    y = product("o", y, heads * size, hidden)
    y = node("SkipSimplifiedLayerNormalization", [x, y, "norm_2"], ["normed_2", "", "", "sum_2"], epsilon=1e-5)
    gate, up = product("gate", y, hidden, inner), product("up", y, hidden, inner)
    node("Sigmoid", [gate], ["gate_sigmoid"], "")
    node("Mul", [gate, "gate_sigmoid"], ["swish"], "")
    y = product("down", node("Mul", ["swish", up], ["inner"], ""), inner, hidden)
    y = node("SkipSimplifiedLayerNormalization", ["sum_2", y, "norm_3"], ["normed_3"], epsilon=1e-5)
    product("logits", y, hidden, 12)
    outputs = ["logits", "present.key", "present.value"]

    for case, batch, room in [("decoder_block", 1, 0), ("decoder_block_batch", 2, 0), ("decoder_block_room", 1, 12)]:
        caches = {name: np.zeros((batch, groups, room, size), np.float32) for name in ["past.key", "past.value"]}
        past = room or "past_sequence_length"
        dims = {"input_ids": ["batch_size", "sequence_length"],
                "attention_mask": ["batch_size", "total_sequence_length"],
                "past.key": ["batch_size", groups, past, size], "past.value": ["batch_size", groups, past, size]}
        model, steps, done = None, [], 0
        for step, count in enumerate([4, 1, 1, 3 if batch == 1 else 1]):
            ids = (np.arange(batch * count, dtype=np.int64).reshape(batch, count) * 7 + step * 3) % 11
            mask = np.ones((batch, done + count), np.int64)
            if batch > 1 and step == 0:
                mask[1, 3:] = 0  # a shorter prompt
            fed = {"input_ids": ids, "attention_mask": mask, **caches}
            model = model or made(case, nodes, fed, outputs, constants, dims)
            steps.append(fed)
            results = run(model, fed)
            caches = dict(zip(["past.key", "past.value"], results[1:]))
            done += count
        CASES[case] = Case(model, steps)
