"""Cases of ONNX Runtime's quantized ops: see make_onnxruntime_ops.py."""

import numpy as np

from onnxruntime_case import add, floats, integers, ints


def one(x):
    """A scale."""
    return np.array(x, np.float32)


def kinds():
    """The dtypes of quantized tensors, with two zero points each."""
    return [("u8", np.uint8, 117, 90), ("i8", np.int8, -5, 7)]


def quantized():
    a, b = integers("a", 3, 16), integers("b", 16, 6)
    u8, signed = np.uint8, b.view(np.int8)
    scales = np.linspace(0.01, 0.03, 6).astype(np.float32)
    c = (floats("c", 6, scale=900)).astype(np.int32)
    ends = {"y_scale": one(2.0), "y_zero": np.array(120, u8)}

    def gemm(case, a, b, b_scale, b_zero, more, **attributes):
        named = {"a": a, "a_scale": one(0.02), "a_zero": np.array(117, u8), "b": b, "b_scale": b_scale,
                 "b_zero": b_zero, **more}
        add(case, "QGemm", named, constants=[name for name in named if name != "a"], **attributes)

    zero = np.array(3, np.int8)
    gemm("qgemm", a, signed, one(0.01), zero, {"c": c, **ends})
    gemm("qgemm_columns", a, signed, scales, np.zeros(6, np.int8), {"c": c, **ends})
    gemm("qgemm_unsigned", a, b, one(0.01), np.array(99, u8), {"c": None, **ends})
    gemm("qgemm_turned", a.T.copy(), signed.T.copy(), one(0.01), zero, {"c": c, **ends}, transA=1, transB=1, alpha=0.5)
    gemm("qgemm_floats", a, signed, scales, np.zeros(6, np.int8), {"c": c})
    for case, axis in [("qlinear_softmax", -1), ("qlinear_softmax_axis", 1)]:
        named = {"x": integers("x", 2, 5, 7), "x_scale": one(0.03), "x_zero": np.array(117, u8),
                 "y_scale": one(1 / 256), "y_zero": np.array(0, u8)}
        add(case, "QLinearSoftmax", named, constants=list(named)[1:], axis=axis, opset=13)


def channels_last():
    shape = {0: (2, 5, 7, 6), 1: (2, 7, 6, 5)}
    for name, dtype, x_zero, y_zero in kinds():
        points = {"x_scale": one(0.03), "x_zero": np.array(x_zero, dtype), "y_scale": one(0.0173),
                  "y_zero": np.array(y_zero, dtype)}
        for last in [0, 1]:
            kind = f"_{name}" + ("_last" if last else "")
            named = {"x": integers(kind, *shape[last]).view(dtype), **points}
            constants = list(points)
            add(f"qlinear_global_average_pool{kind}", "QLinearGlobalAveragePool", named, constants=constants,
                channels_last=last)
            window = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1], "channels_last": last}
            add(f"qlinear_average_pool{kind}", "QLinearAveragePool", named, constants=constants, **window)
            add(f"qlinear_average_pool_counted{kind}", "QLinearAveragePool", named, constants=constants,
                count_include_pad=1, **window)
            add(f"qlinear_average_pool_ceil{kind}", "QLinearAveragePool", named, constants=constants, ceil_mode=1,
                kernel_shape=[2, 2], strides=[2, 2], channels_last=last)
            add(f"qlinear_average_pool_same{kind}", "QLinearAveragePool", named, constants=constants,
                auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[2, 2], channels_last=last)
        x = {"x": integers(name, *shape[1]).view(dtype)}
        add(f"nhwc_max_pool_{name}", "NhwcMaxPool", x, kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 1])
        add(f"nhwc_max_pool_{name}_open", "NhwcMaxPool", x, kernel_shape=[2, 2], dims={"x": ["N", "H", "W", 5]})
        add(f"nhwc_max_pool_{name}_dilated", "NhwcMaxPool", x, kernel_shape=[2, 2], dilations=[2, 1], ceil_mode=1,
            strides=[2, 2])
    weights = integers("w", 8, 4, 3, 3).view(np.int8)
    scales = np.linspace(0.005, 0.02, 8).astype(np.float32)
    for kind, x, w, w_zero, more, attributes in [
            ("", (1, 6, 5, 4), weights, 0, {}, {"pads": [1, 1, 1, 1]}),
            ("_bias", (2, 6, 5, 4), weights, 0, {"b": (floats("b", 8, scale=900)).astype(np.int32)}, {}),
            ("_columns", (2, 6, 5, 4), weights, 0, {"w_scale": scales}, {"strides": [2, 1]}),
            ("_groups", (1, 6, 5, 8), weights, 0, {}, {"group": 2, "auto_pad": "SAME_UPPER"}),
            ("_depthwise", (1, 6, 5, 8), weights[:, :1], 0, {}, {"group": 8, "dilations": [2, 1]}),
            ("_unsigned", (1, 6, 5, 4), weights.view(np.uint8), 120, {}, {})]:
        for last in [1, 0]:
            case = f"qlinear_conv{kind}" + ("_last" if last else "_first")
            operand = integers(case, *x) if last else integers(case, x[0], x[3], *x[1:3])
            named = {"x": operand, "x_scale": one(0.03), "x_zero": np.array(117, np.uint8), "w": w.copy(),
                     "w_scale": one(0.01), "w_zero": np.array(w_zero, w.dtype), "y_scale": one(0.5),
                     "y_zero": np.array(120, np.uint8), **more}
            if "w_scale" in more:
                named["w_zero"] = np.zeros(8, w.dtype)
            add(case, "QLinearConv", named, constants=list(named)[1:], channels_last=last, kernel_shape=[3, 3],
                **attributes)


def elementwise():
    every = np.arange(256).astype(np.uint8)
    for name, dtype, x_zero, y_zero in kinds():
        x = {"x": every.view(dtype), "x_scale": one(0.03), "x_zero": np.array(x_zero, dtype)}
        y = {"y_scale": one(0.02), "y_zero": np.array(y_zero, dtype)}
        constants = [*x, *y][1:]
        for scale in [0.03, 0.008, 0.11]:
            scaled = {**x, "x_scale": one(scale), **y}
            add(f"qlinear_sigmoid_{name}_{scale}", "QLinearSigmoid", {**scaled, "y_scale": one(1 / 256)},
                constants=constants)
            add(f"qlinear_leaky_relu_{name}_{scale}", "QLinearLeakyRelu", scaled, constants=constants, alpha=0.1)
        for kind, axis, shapes in [("", 1, [(3, 4), (3, 2)]), ("_three", 0, [(2, 5), (3, 5), (1, 5)]),
                                   ("_end", -1, [(2, 2, 3), (2, 2, 5)])]:
            named = dict(y)
            for i, shape in enumerate(shapes):
                named |= {f"x{i}": integers(f"x{i}", *shape).view(dtype), f"s{i}": one(0.02 + 0.007 * i),
                          f"z{i}": np.array(x_zero - 9 * i, dtype)}
            fed = [f"x{i}" for i in range(len(shapes))]
            add(f"qlinear_concat_{name}{kind}", "QLinearConcat", named, axis=axis,
                constants=[n for n in named if n not in fed])
        for kind, shapes in [("", [(4, 5), (4, 5), (5,)]), ("_wide", [(2, 1, 5), (4, 1), (1,)]),
                             ("_one", [(1,), (3, 2), (3, 2)])]:
            condition = floats(f"c{kind}", *shapes[0]) > 0
            named = {"c": condition, "x": integers("x", *shapes[1]).view(dtype), "x_scale": one(0.03),
                     "x_zero": np.array(x_zero, dtype), "z": integers("z", *shapes[2]).view(dtype),
                     "z_scale": one(0.02), "z_zero": np.array(3, dtype), **y}
            add(f"qlinear_where_{name}{kind}", "QLinearWhere", named,
                constants=[n for n in named if n not in ["c", "x", "z"]])


def real_products():
    a, b = integers("a", 2, 3, 16), integers("b", 16, 6)
    bias, scales = floats("bias", 6), np.linspace(0.01, 0.03, 6).astype(np.float32)
    zero = np.array(117, np.uint8)
    for kind, weights, b_scale, b_zero, with_bias in [
            ("", b, one(0.01), np.array(99, np.uint8), None), ("_signed", b.view(np.int8), one(0.01), None, bias),
            ("_columns", b.view(np.int8), scales, np.arange(6, dtype=np.int8), bias)]:
        named = {"a": a, "b": weights, "a_scale": one(0.02), "b_scale": b_scale, "a_zero": zero, "b_zero": b_zero,
                 "bias": with_bias}
        add(f"matmul_integer_to_float{kind}", "MatMulIntegerToFloat", named, constants=list(named)[1:])
        dynamic = {"a": floats("a", 2, 3, 16), "b": weights, "b_scale": b_scale, "b_zero": b_zero, "bias": with_bias}
        add(f"dynamic_quantize_matmul{kind}", "DynamicQuantizeMatMul", dynamic, constants=list(dynamic)[1:])
    for kind, directions in [("forward", 1), ("reverse", 1), ("bidirectional", 2)]:
        hidden, width = 4, 6
        w, r = integers("w", directions, width, 4 * hidden), integers("r", directions, hidden, 4 * hidden)
        named = {"x": floats("x", 5, 1, width), "w": w.view(np.int8), "r": r.view(np.int8),
                 "b": floats("b", directions, 8 * hidden), "lengths": None, "h": None, "c": None, "p": None,
                 "w_scale": np.full(directions, 0.01, np.float32), "w_zero": np.zeros(directions, np.int8),
                 "r_scale": np.full(directions, 0.02, np.float32), "r_zero": np.zeros(directions, np.int8)}
        add(f"dynamic_quantize_lstm_{kind}", "DynamicQuantizeLSTM", named, ("y", "y_h", "y_c"),
            constants=[n for n in named if n != "x"], direction=kind, hidden_size=hidden)


def embedded():
    ids, segment_ids = ints([3, 1, 4, 1], [5, 0, 2, 6]), ints([0, 0, 1, 1], [1, 0, 1, 0])
    tables = {"words": integers("words", 7, 8), "positions": integers("positions", 6, 8),
              "segments": integers("segments", 2, 8), "gamma": integers("gamma", 8), "beta": integers("beta", 8)}
    mask = ints([1, 1, 0, 0], [0, 1, 1, 1])
    scales = {f"{name}_scale": one(0.01 + 0.003 * i) for i, name in enumerate(tables)}
    for name, dtype, zero, _ in kinds():
        zeros = {f"{table}_zero": np.array(zero + i, dtype) for i, table in enumerate(tables)}
        integer_tables = {table: v.view(dtype) for table, v in tables.items()}
        for kind, change in [("", {}), ("_no_mask", {"mask": None}),
                             ("_no_segments", {"segment_ids": None, "segments": None, "segments_scale": None,
                                               "segments_zero": None})]:
            named = {"ids": ids, "segment_ids": segment_ids, **integer_tables, "mask": mask, **scales, **zeros,
                     **change}
            constants = [n for n in named if n not in ["ids", "segment_ids", "mask"]]
            add(f"qembed_layer_norm_{name}{kind}", "QEmbedLayerNormalization", named, ("y", "mask_index"), constants)


def quantized_attention():
    x, weights, bias = integers("x", 2, 5, 16), integers("w", 16, 48).view(np.int8), floats("b", 48)
    given = {"x": x, "w": weights, "b": bias, "x_scale": one(0.02), "w_scale": one(0.01), "mask": None,
             "x_zero": np.array(117, np.uint8), "w_zero": np.array(3, np.int8), "past": None}

    def case(kind, change, outputs=("y",), **attributes):
        named = {**given, **change}
        while named[list(named)[-1]] is None:
            named.popitem()
        add(f"qattention{kind}", "QAttention", named, outputs, num_heads=2,
            constants=[n for n in named if n not in ["x", "mask", "past"]], **attributes)

    past = {"past": floats("past", 2, 2, 2, 3, 8)}
    case("", {})
    case("_columns", {"w_scale": np.linspace(0.005, 0.02, 48).astype(np.float32), "w_zero": np.zeros(48, np.int8)})
    case("_no_zeros", {"x_zero": None, "w_zero": None})
    case("_unsigned", {"w": weights.view(np.uint8), "w_zero": np.array(99, np.uint8)})
    case("_lengths", {"mask": ints(3, 5)})
    case("_padding", {"mask": ints([1, 1, 1, 0, 0], [1] * 5)}, mask_filter_value=-7.0)
    case("_causal", {}, unidirectional=1, scale=0.2)
    case("_present", {}, ("y", "present"))
    case("_past", past, ("y", "present"))
    case("_past_causal", past, ("y", "present"), unidirectional=1)
