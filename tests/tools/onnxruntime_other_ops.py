"""Cases of ONNX Runtime's ops that the standard has in another form, and of those of newer models.

See make_onnxruntime_ops.py.
"""

import numpy as np

from onnxruntime_case import add, floats, integers, ints


def longs(*values):
    """A tensor of integers, of which ONNX Runtime takes places and extents."""
    return np.array(values, np.int64)


def basics():
    for kind, rows, others, size in [("", 4, 5, 3), ("_one", 1, 6, 8), ("_same", 3, 3, 2)]:
        a, b = floats("a", rows, size), floats("b", others, size)
        add(f"cdist{kind}", "CDist", {"a": a, "b": b})
        add(f"cdist{kind}_root", "CDist", {"a": a, "b": b}, metric="euclidean", dims={"a": ["N", size]})
    for axis in [0, 1, -1]:
        for constants in [[], ["axis"]]:
            add(f"expand_dims_{axis}_{'const' if constants else 'open'}", "ExpandDims",
                {"x": floats("x", 2, 3), "axis": np.array(axis, np.int32)}, constants=constants)
    table = floats("table", 2, 3, 4)
    add("gather_nd", "GatherND", {"x": table, "i": longs([0, 1], [1, 2])})
    add("gather_nd_elements", "GatherND", {"x": table, "i": ints([[0, 1, 3], [1, -1, 0]])})
    add("gather_nd_rows", "GatherND", {"x": table, "i": ints([1], [0], [-2])}, constants=["i"])
    grid = floats("grid", 2, 3, 4, 2, scale=0.6)
    for mode in ["bilinear", "nearest", "bicubic"]:
        for padding in ["zeros", "border", "reflection"]:
            add(f"grid_sample_{mode}_{padding}", "GridSample", {"x": floats("x", 2, 2, 5, 6), "grid": grid}, mode=mode,
                padding_mode=padding, align_corners=int(padding == "border"))
    for kind, pads in [("", longs(0, 1, 1, 0)), ("_row", longs([1, 0, 0, 2])), ("_cut", longs(-1, 1, 0, -1))]:
        for value in [None, np.array(2.5, np.float32), np.array([-1], np.float32)]:
            form = "" if value is None else f"_value_{value.ndim}"
            add(f"pad{kind}{form}", "Pad", {"x": floats("x", 3, 4), "pads": pads, "value": value},
                constants=["pads"] if kind != "_row" else [])
    for mode in ["edge", "reflect"]:
        add(f"pad_{mode}", "Pad", {"x": floats("x", 3, 4), "pads": longs(1, 2, 0, 1)}, constants=["pads"], mode=mode)
    for kind, values in [("", ints(1, 7, 2)), ("_default", ints(2, 6)), ("_back", ints(7, 1, -2)),
                         ("_empty", longs(5, 1)), ("_floats", np.array([0, 1, 0.3], np.float32))]:
        named = {name: np.array(v, values.dtype) for name, v in zip(["start", "limit", "delta"], values)}
        add(f"range{kind}", "Range", named)
    add("range_lists", "Range", {"start": ints(0), "limit": ints(9), "delta": ints(4)})
    for kind, k, upper in [("", 1, 1), ("_lower", -1, 0), ("_none", None, 1)]:
        add(f"trilu{kind}", "Trilu", {"x": floats("x", 2, 3, 4), "k": None if k is None else np.array(k, np.int64)},
            upper=upper)
    for kind, shape, dim, size, step in [("", (2, 7), -1, 3, 2), ("_first", (7, 2), 0, 3, 2),
                                         ("_middle", (2, 6, 3), 1, 2, 1), ("_whole", (4, 3), 0, 4, 5)]:
        add(f"unfold{kind}", "UnfoldTensor", {"x": floats("x", *shape)}, dim=dim, size=size, step=step)
    add("unfold_open", "UnfoldTensor", {"x": floats("x", 3, 9)}, dim=1, size=4, step=2, dims={"x": ["N", "T"]})
    three = ("values", "places", "counts")
    for kind, x in [("", np.array([2, 1, 1, 3, 4, 3], np.float32)), ("_same", np.full(3, 5, np.float32)),
                    ("_signed", np.array([-1, 0.5, -1, 7], np.float32))]:
        add(f"unique{kind}", "Unique", {"x": x}, three)
    for kind, a, b in [("", (3, 4), (4, 5)), ("_batch", (2, 3, 4), (4, 2)), ("_vector", (1, 4), (4, 1))]:
        wide = lambda name, shape: (floats(name, *shape, scale=3000)).astype(np.int16)
        add(f"matmul_integer_16{kind}", "MatMulInteger16", {"a": wide("a", a), "b": wide("b", b)})
    add("sample_op", "SampleOp", {"x": floats("x", 2, 3)})
    for kind, pads, more in [("", longs(1, 1, 1, 1), {}), ("_uneven", longs(0, 1, 2, 0), {"output_padding": [1, 1]}),
                             ("_groups", longs(0, 0, 0, 0), {"group": 2})]:
        weights = floats("w", 4, 3 if kind != "_groups" else 2, 3, 3)
        bias = floats("b", weights.shape[1] * more.get("group", 1))
        named = {"x": floats("x", 1, 4, 4, 5), "w": weights, "pads": pads, "b": bias}
        add(f"conv_transpose_dynamic_pads{kind}", "ConvTransposeWithDynamicPads", named, constants=["w", "pads", "b"],
            strides=[2, 2], kernel_shape=[3, 3], **more)


def gates():
    x, y = floats("x", 2, 3, 8), floats("y", 2, 3, 8)
    add("scaled_silu", "ScaledSiLU", {"x": x})
    add("scaled_silu_alpha", "ScaledSiLU", {"x": x}, alpha=0.4)
    add("scaled_silu_scale", "ScaledSiLU", {"x": x, "scale": np.array(-1.5, np.float32)}, alpha=0.4)
    for kind, shape in [("", (2, 3)), ("_rows", (5,)), ("_many", (2, 2, 3))]:
        named = {"x": floats("x", *shape, 8), "other": floats("o", *shape, 8), "gate": floats("gate", *shape, 1)}
        add(f"gated_add{kind}", "GatedAdd", named)
    for kind, size, more in [("", 8, {}), ("_heads", 4, {}), ("_sigmoid", 2, {"activation": "sigmoid"}),
                             ("_swish", 8, {"activation": "swish", "epsilon": 0.1})]:
        add(f"gated_rms_norm{kind}", "GatedRMSNorm", {"x": x, "scale": floats("s", size), "gate": y}, **more)
    for kind, scale in [("", None), ("_one", (8,)), ("_each", (3, 8)), ("_flat", (24,))]:
        scale = None if scale is None else floats("s", *scale)
        add(f"branchwise_rms_norm{kind}", "BranchwiseRMSNorm", {"x": x, "scale": scale})
        add(f"branchwise_rms_norm_beside{kind}", "BranchwiseRMSNorm", {"x": x.reshape(2, 24), "scale": scale},
            num_branches=3, epsilon=1e-3)
    a, bias, scale = floats("a", 2, 3, 4), floats("bias", 4), -np.abs(floats("scale", 4))
    for kind, b in [("", None), ("_both", floats("b", 2, 3, 4))]:
        add(f"linear_attention_gate{kind}", "LinearAttentionGate", {"a": a, "bias": bias, "scale": scale, "b": b},
            ("decay", "beta") if kind else ("decay",))
    add("linear_attention_gate_large", "LinearAttentionGate", {"a": a * 40, "bias": bias, "scale": scale})
    heads, size = 2, 4
    q, k, v = (floats(name, 2, 5, heads * size, scale=0.5) for name in "qkv")
    decay, beta = -np.abs(floats("decay", 2, 5, heads)), 1 / (1 + np.exp(-floats("beta", 2, 5, heads)))
    state = floats("state", 2, heads, size, size)
    for rule, more in [("linear", {}), ("gated", {"decay": decay}), ("delta", {"beta": beta}),
                       ("gated_delta", {"decay": decay, "beta": beta})]:
        for kind, past in [("", None), ("_past", state)]:
            named = {"q": q, "k": k, "v": v, "past": past, "decay": more.get("decay"), "beta": more.get("beta")}
            add(f"linear_attention_{rule}{kind}", "LinearAttention", named, ("y", "present"), q_num_heads=heads,
                kv_num_heads=heads, update_rule=rule)
    for kind, past, more in [("", None, {}), ("_past", floats("past", 2, 4, 2), {}),
                             ("_silu", floats("past", 2, 4, 2), {"activation": "silu"})]:
        named = {"x": floats("x", 2, 4, 5), "w": floats("w", 4, 1, 3), "b": floats("b", 4), "past": past}
        add(f"causal_conv{kind}", "CausalConvWithState", named, ("y", "present"), constants=["w", "b"], **more)


def three_positions():
    at = np.stack([np.arange(10).reshape(2, 5) * n % 11 for n in [1, 3, 7]]).astype(np.int64)
    flat, split = floats("x", 2, 5, 32), floats("x", 2, 2, 5, 16)
    for layout in [0, 1]:
        for kind, x, section, more in [("", split, [2, 3, 3], {}), ("_flat", flat, [4, 2, 2], {"num_heads": 2}),
                                       ("_pairs", split, [3, 3, 2], {"interleaved": 1}),
                                       ("_part", flat, [2, 1, 1], {"num_heads": 2, "rotary_embedding_dim": 8}),
                                       ("_one", split, [8, 0, 0], {})]:
            angles = floats("angles", 12, sum(section))
            named = {"x": x, "at": at, "cos": np.cos(angles), "sin": np.sin(angles)}
            add(f"mrotary_{layout}{kind}", "MRotaryEmbedding", named, constants=["cos", "sin"], mrope_layout=layout,
                mrope_section=section, **more)


def looked_up():
    """Weights that are places in a table of numbers."""
    for kind in [0, 1]:
        for k, n, block in [(64, 6, 32), (32, 5, 64), (48, 3, 16)]:
            case = f"matmul_bnb4_{kind}_{k}_{block}"
            named = {"a": floats("a", 2, 3, k), "w": integers(case, n * k // 2),
                     "s": np.abs(floats(case, -(-n * k // block))) + 0.1}
            add(case, "MatMulBnb4", named, constants=["w", "s"], K=k, N=n, block_size=block, quant_type=kind)


def experts():
    """Layers of four experts; the activations are those that ONNX Runtime has on CPUs."""
    size, inner = 8, 12

    def case(kind, rows=(5,), fused=1, biased=True, **attributes):
        named = {"x": floats("x", *rows, size), "router": floats("router", int(np.prod(rows)), 4),
                 "w1": floats("w1", 4, fused * inner, size, scale=0.4),
                 "b1": floats("b1", 4, fused * inner) if biased else None,
                 "w2": floats("w2", 4, size, inner, scale=0.4), "b2": floats("b2", 4, size) if biased else None}
        add(f"moe{kind}", "MoE", named, constants=["w1", "b1", "w2", "b2"], **attributes)

    for name in ["relu", "gelu", "silu", "identity"]:
        case(f"_{name}", activation_type=name)
        case(f"_{name}_two", k=2, activation_type=name)
        case(f"_{name}_parts", k=3, activation_type=name, normalize_routing_weights=1)
    case("_all", k=4, biased=False)
    case("_sequences", (2, 3), k=2, biased=False)
    case("_one_row", (1, 1), k=2)
    for kind, more in [("", {}), ("_alpha", {"activation_alpha": 1.702, "activation_beta": 1.0}),
                       ("_limit", {"activation_alpha": 1.702, "activation_beta": 1.0, "swiglu_limit": 0.5})]:
        case(f"_swiglu{kind}", k=2, fused=2, activation_type="swiglu", swiglu_fusion=1, **more)
