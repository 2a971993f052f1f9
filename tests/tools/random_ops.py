"""Random nodes of ONNX's standard ops, for `random_models.py`.

A *maker* is a function that gets a `Draw` and adds one node, with its attributes and constants, to values that are
there or to new inputs. It may make what the op refuses: whoever calls it tries the node in ONNX Runtime first. Shapes
are small and odd, with dims of 0 and 1; values have extremes, NaN and infinities among them where the op defines a
result.
"""

import numpy as np
from onnx import TensorProto, helper

FLOATS = [np.float32, np.float64, np.float16]
INTS = [np.int64, np.int32, np.int8, np.uint8, np.int16, np.uint16, np.uint32, np.uint64]
ONNX = {
    np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float16): TensorProto.FLOAT16, np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32, np.dtype(np.int16): TensorProto.INT16, np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.uint16): TensorProto.UINT16,
    np.dtype(np.uint32): TensorProto.UINT32, np.dtype(np.uint64): TensorProto.UINT64, np.dtype(bool): TensorProto.BOOL,
}  # fmt: skip
EXTREMES = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-40, 88.8, -104.0, 0.5, 2.5, -2.5, 2097153.5]


class Draw:
    """What a maker draws from: random numbers, the values so far, and new inputs and constants."""

    def __init__(self, random):
        self.random = random
        self.values = {}  # name -> array
        self.inputs, self.constants, self.nodes = {}, {}, []

    def integer(self, low, high):
        return int(self.random.integers(low, high + 1))

    def chance(self, share):
        return self.random.random() < share

    def pick(self, items):
        return items[self.integer(0, len(items) - 1)]

    def dim(self):
        return self.pick([1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17]) if self.chance(0.96) else 0

    def shape(self, rank=None):
        rank = self.integer(0, 4) if rank is None else rank
        return tuple(self.dim() for _ in range(rank))

    def array(self, dtype, shape, wild=None):
        """Ordinary numbers, or with `wild` some extremes of the dtype."""
        dtype = np.dtype(dtype)
        wild = self.chance(0.15) if wild is None else wild
        if dtype == bool:
            return self.random.integers(0, 2, shape).astype(bool)
        if dtype.kind == "f":
            a = self.random.normal(0, self.pick([0.1, 1, 1, 4]), shape)
            if wild and a.size:
                where = self.random.random(shape) < 0.3
                with np.errstate(over="ignore"):
                    return np.where(where, self.random.choice(EXTREMES, shape), a).astype(dtype)
            return a.astype(dtype)
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if wild else (max(info.min, -9), 9)
        return self.random.integers(low, high, shape, dtype=dtype, endpoint=True)

    def new(self, array):
        """An input, or a constant, of these values."""
        array = np.asarray(array)
        name = f"v{len(self.values)}"
        self.values[name] = array
        (self.inputs if self.chance(0.6) else self.constants)[name] = array
        return name

    def constant(self, array):
        name = f"v{len(self.values)}"
        self.values[name] = self.constants[name] = np.asarray(array)
        return name

    def value(self, dtypes=FLOATS, rank=None, least=0):
        """A value of one of the dtypes and a rank, one that is there if possible."""
        dtypes = [np.dtype(d) for d in (dtypes if isinstance(dtypes, list) else [dtypes])]
        fits = [n for n, a in self.values.items() if a.dtype in dtypes and (rank is None or a.ndim == rank)]
        fits = [n for n in fits if self.values[n].ndim >= least]
        if fits and self.chance(0.8):
            return self.pick(fits[-4:])
        rank = max(least, self.integer(0, 4)) if rank is None else rank
        return self.new(self.array(self.pick(dtypes), self.shape(rank)))

    def of(self, name):
        return self.values[name]

    def like(self, name):
        """A value that broadcasts with another one and has its dtype."""
        a = self.of(name)
        shape = [d if self.chance(0.7) else 1 for d in a.shape][self.integer(0, a.ndim) if self.chance(0.3) else 0 :]
        return self.new(self.array(a.dtype, tuple(shape)))

    def axis(self, rank):
        return self.integer(-rank, rank - 1) if rank else 0

    def node(self, op, inputs, outputs=1, domain="", **attributes):
        names = [f"v{len(self.values)}_{len(self.nodes)}_{i}" for i in range(outputs)]
        attributes = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names


def unary(ops, dtypes):
    def make(d):
        d.node(d.pick(ops), [d.value(dtypes)])

    return make


def sign(d):
    """Of numbers: what NaN has is left open."""
    d.node("Sign", [d.new(np.nan_to_num(d.of(d.value(FLOATS + [np.int64, np.int32, np.int8]))))])


def circular(d):
    """Of large arguments only where both sides have the same one: a step of the argument is many turns."""
    x = d.value([np.float32])
    if (np.abs(np.nan_to_num(d.of(x))) > 1e3).any():
        x = d.new(d.array(np.float32, d.of(x).shape, True))
    if d.chance(0.7):
        d.node(d.pick(["Sin", "Cos"]), [x])
    else:  # not near the poles of the tangent, which magnify the last bit
        d.node("Tan", [d.new(d.random.uniform(-1.4, 1.4, d.of(x).shape).astype(np.float32))])


def binary(ops, dtypes):
    def make(d):
        x = d.value(dtypes)
        pair = [x, d.like(x)]
        d.node(d.pick(ops), pair if d.chance(0.7) else pair[::-1])

    return make


def activation(d):
    op, names = d.pick([
        ("LeakyRelu", ["alpha"]), ("Elu", ["alpha"]), ("Selu", ["alpha", "gamma"]), ("Celu", ["alpha"]),
        ("HardSigmoid", ["alpha", "beta"]), ("ThresholdedRelu", ["alpha"]), ("HardSwish", []), ("Softplus", []),
        ("Softsign", []), ("Mish", []), ("Gelu", []), ("Relu", []), ("Sigmoid", []), ("Tanh", []),
    ])  # fmt: skip
    attributes = {name: float(d.random.uniform(0.1, 2)) for name in names if d.chance(0.6)}
    if op == "Gelu" and d.chance(0.5):
        attributes["approximate"] = "tanh"
    d.node(op, [d.value([np.float32])], **attributes)


def shift(d):
    dtype = d.pick([np.uint8, np.uint32, np.uint64])
    x = d.new(d.array(dtype, d.shape(), wild=True))
    bits = d.new(d.random.integers(0, np.dtype(dtype).itemsize * 8 - 1, d.of(x).shape).astype(dtype))
    d.node("BitShift", [x, bits], direction=d.pick(["LEFT", "RIGHT"]))


def power(d):
    x = d.new(np.abs(d.array(d.pick([np.float32, np.float64]), d.shape(), wild=False)))
    if d.chance(0.4):
        x = d.new(d.array(d.pick([np.int32, np.int64]), d.shape(), wild=False))
        d.node("Pow", [x, d.new(d.random.integers(0, 4, d.of(x).shape).astype(d.of(x).dtype))])
    else:
        d.node("Pow", [x, d.like(x)])


def divide(d):
    """Of integers by what is not zero: that is not defined."""
    dtype = d.pick([np.int32, np.int64, np.uint8, np.float32, np.float64])
    x = d.value([dtype])
    y = d.of(d.like(x))
    if y.dtype.kind != "f":
        y = np.where(y == 0, 3, np.where(y == -1, 1, y)).astype(dtype)
    op = d.pick(["Div", "Mod"])
    d.node(op, [x, d.new(y)], fmod=int(y.dtype.kind == "f") if op == "Mod" else None)


def where(d):
    x = d.value(FLOATS + [np.int64, np.int32, np.uint8])
    d.node("Where", [d.new(d.array(bool, d.of(x).shape if d.chance(0.7) else d.shape())), x, d.like(x)])


def clip(d):
    x = d.value([np.float32, np.float64, np.int64, np.int32, np.int8, np.uint8])
    x = d.new(np.nan_to_num(d.of(x)))  # a bound that is left out is the largest number in ONNX Runtime
    low, high = sorted(d.array(d.of(x).dtype, (2,), wild=False))
    ends = [d.new(low) if d.chance(0.7) else "", d.new(high) if d.chance(0.7) else ""]
    d.node("Clip", [x, *ends])


def reduce(d):
    op = d.pick(["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"])
    x = d.value([np.float32, np.float32, np.int32, np.int64] if op not in ("LogSum", "LogSumExp") else [np.float32])
    if op == "LogSum":
        x = d.new(np.abs(d.of(x)))
    if d.of(x).size == 0:  # results over nothing are left open
        return
    if op in ("Max", "Min", "LogSumExp"):  # of NaN ONNX Runtime makes what its vectors make of it
        x = d.new(np.nan_to_num(d.of(x)))
    if op in ("L2", "SumSquare") and d.of(x).dtype.kind == "f":  # squares overflow, or not, by how they are summed
        x = d.new(np.clip(d.of(x), -1e15, 1e15))
    if d.of(x).dtype.kind == "i":  # overflow is not defined
        x = d.new(np.clip(d.of(x), -1 if op == "Prod" else -9, 1 if op == "Prod" else 9))
    rank = d.of(x).ndim
    axes = d.random.permutation(rank)[: d.integer(0, rank)].astype(np.int64)
    axes = [int(a) - (rank if d.chance(0.3) else 0) for a in axes]
    inputs = [x] if d.chance(0.2) else [x, d.constant(np.array(axes, np.int64))]
    d.node(f"Reduce{op}", inputs, keepdims=d.integer(0, 1), noop_with_empty_axes=d.integer(0, 1))


def arg(d):
    x = d.value([np.float32, np.int32, np.int64, np.uint8], least=1)
    attributes = {"axis": d.axis(d.of(x).ndim), "keepdims": d.integer(0, 1), "select_last_index": d.integer(0, 1)}
    d.node(d.pick(["ArgMax", "ArgMin"]), [d.new(np.nan_to_num(d.of(x)))], **attributes)


def cumsum(d):
    x = d.value([np.float32, np.float64, np.int32, np.int64], least=1)
    axis = d.constant(np.array(d.axis(d.of(x).ndim), np.int64))
    d.node("CumSum", [x, axis], exclusive=d.integer(0, 1), reverse=d.integer(0, 1))


def cast(d):
    x = d.value(FLOATS + INTS + [bool])
    to = d.pick(FLOATS + INTS + [bool])
    if d.of(x).dtype.kind == "f" and np.dtype(to).kind in "iu":
        top = min(float(np.iinfo(to).max), 1e4)
        x = d.new(np.clip(np.nan_to_num(d.of(x)), max(float(np.iinfo(to).min), -1e4), top).astype(d.of(x).dtype))
    d.node("Cast", [x], to=ONNX[np.dtype(to)])


ANY = [np.float32, np.float32, np.float16, np.float64, np.int64, np.int32, np.uint8, np.int8, bool]


def reshape(d):
    x = d.value(ANY)
    shape, size = [], d.of(x).size
    while size > 1 and len(shape) < 4:
        part = d.pick([p for p in range(1, size + 1) if size % p == 0])
        shape, size = shape + [part], size // part
    shape += [size]
    if d.chance(0.4) and d.of(x).size:
        shape[d.integer(0, len(shape) - 1)] = -1
    d.node("Reshape", [x, (d.constant if d.chance(0.7) else d.new)(np.array(shape, np.int64))])


def transpose(d):
    x = d.value(ANY)
    d.node("Transpose", [x], perm=[int(p) for p in d.random.permutation(d.of(x).ndim)] if d.chance(0.9) else None)


def flatten(d):
    x = d.value(ANY)
    d.node("Flatten", [x], axis=d.axis(d.of(x).ndim))


def squeeze(d):
    x = d.value(ANY)
    ones = [i for i, n in enumerate(d.of(x).shape) if n == 1]
    if d.chance(0.5) and ones:
        d.node("Squeeze", [x, d.constant(np.array([d.pick(ones)], np.int64))])
    else:
        d.node("Unsqueeze", [x, d.constant(np.array([d.integer(0, d.of(x).ndim)], np.int64))])


def expand(d):
    x = d.value(ANY)
    shape = [n if n != 1 or d.chance(0.4) else d.dim() for n in d.of(x).shape]
    d.node("Expand", [x, (d.constant if d.chance(0.6) else d.new)(np.array([2] * d.integer(0, 1) + shape, np.int64))])


def tile(d):
    x = d.value(ANY)
    times = [d.integer(0 if d.chance(0.1) else 1, 3) for _ in d.of(x).shape]
    d.node("Tile", [x, (d.constant if d.chance(0.6) else d.new)(np.array(times, np.int64))])


def cut(d):
    x = d.value(ANY, least=1)
    rank = d.of(x).ndim
    axes = [int(a) for a in d.random.permutation(rank)[: d.integer(1, rank)]]
    starts = [d.integer(-10, 10) for _ in axes]
    steps = [d.pick([1, 1, 2, 3, -1, -2]) for _ in axes]
    # To the end: the standard's numbers. ONNX Runtime takes the largest one for both directions.
    ends = [d.pick([d.integer(-10, 10), 2**31 - 1 if s > 0 else -(2**31)]) for s in steps]
    give = d.constant if d.chance(0.8) else d.new
    d.node("Slice", [x, *(give(np.array(v, np.int64)) for v in (starts, ends, axes, steps))])


def split(d):
    x = d.value(ANY, least=1)
    axis = d.integer(0, d.of(x).ndim - 1)
    n = d.of(x).shape[axis]
    at = sorted(d.integer(0, n) for _ in range(d.integer(0, 2)))
    sizes = np.diff([0, *at, n]).astype(np.int64)
    d.node("Split", [x, d.constant(sizes)], outputs=len(sizes), axis=axis)


def concat(d):
    x = d.value(ANY, least=1)
    axis = d.axis(d.of(x).ndim)
    parts = [x]
    for _ in range(d.integer(0, 2)):
        shape = list(d.of(x).shape)
        shape[axis] = d.dim()
        parts.append(d.new(d.array(d.of(x).dtype, tuple(shape))))
    d.node("Concat", [parts[i] for i in d.random.permutation(len(parts))], axis=axis)


def pad(d):
    x = d.value([np.float32, np.float32, np.int64, np.uint8], least=1)
    rank, mode = d.of(x).ndim, d.pick(["constant", "reflect", "edge", "wrap"])
    most = 3 if mode != "reflect" else max(0, min(d.of(x).shape) - 1)
    low = -1 if mode == "constant" else 0
    pads = np.array([d.integer(low, max(low, min(3, most))) for _ in range(2 * rank)], np.int64)
    value = [d.new(d.array(d.of(x).dtype, ()))] if mode == "constant" and d.chance(0.5) else []
    d.node("Pad", [x, (d.constant if d.chance(0.8) else d.new)(pads), *value], mode=mode)


def indices(d, n, shape):
    return d.random.integers(-n, n, shape).astype(d.pick([np.int64, np.int32])) if n else np.zeros((0,), np.int64)


def gather(d):
    x = d.value(ANY, least=1)
    axis = d.integer(0, d.of(x).ndim - 1)
    d.node("Gather", [x, d.new(indices(d, d.of(x).shape[axis], d.shape(d.integer(0, 2))))], axis=axis)


def gather_elements(d):
    x = d.value(ANY, least=1)
    axis = d.integer(0, d.of(x).ndim - 1)
    shape = [n if i != axis else d.dim() for i, n in enumerate(d.of(x).shape)]
    d.node("GatherElements", [x, d.new(indices(d, d.of(x).shape[axis], shape))], axis=axis)


def gather_nd(d):
    x = d.value(ANY, least=1)
    a, depth = d.of(x), d.integer(1, d.of(x).ndim)
    batch = d.integer(0, depth - 1)
    columns = [d.random.integers(-n, n, (*a.shape[:batch], 3, 1)) if n else None for n in a.shape[batch:depth]]
    if all(c is not None for c in columns):
        d.node("GatherND", [x, d.new(np.concatenate(columns, -1).astype(np.int64))], batch_dims=batch)


def scatter(d):
    x = d.value([np.float32, np.float32, np.int64, np.int32], least=1)
    a, axis = d.of(x), d.integer(0, d.of(x).ndim - 1)
    reduction = d.pick(["none", "add", "mul", "max", "min"])
    if reduction in ("max", "min"):
        x = d.new(np.nan_to_num(a))
    if a.size == 0:
        return
    if d.chance(0.5):
        shape = [d.integer(1, n) for n in a.shape]
        whole = [n if i == axis else s for i, (n, s) in enumerate(zip(a.shape, shape))]
        where = np.argsort(d.random.random(whole), axis)
        where = np.take(where, range(shape[axis]), axis).astype(np.int64)
        updates = d.new(np.nan_to_num(d.array(a.dtype, tuple(shape))))
        d.node("ScatterElements", [x, d.new(where), updates], axis=axis, reduction=reduction)
    else:
        at = d.random.permutation(a.shape[0])[: d.integer(0, a.shape[0])].astype(np.int64)[:, None]
        updates = d.new(np.nan_to_num(d.array(a.dtype, (len(at), *a.shape[1:]))))
        d.node("ScatterND", [x, d.new(at), updates], reduction=reduction)


def matmul(d):
    x = d.value([np.float32, np.float32, np.float64, np.int32], least=1)
    a = d.of(x)
    other = (a.shape[-1], d.dim()) if a.ndim > 1 or d.chance(0.7) else (a.shape[-1],)
    lead = tuple(n if d.chance(0.7) else 1 for n in a.shape[:-2]) if d.chance(0.5) else ()
    d.node("MatMul", [x, d.new(d.array(a.dtype, lead + other))])


def gemm(d):
    m, k, n = d.dim(), d.dim(), d.dim()
    ta, tb = d.integer(0, 1), d.integer(0, 1)
    a, b = (k, m) if ta else (m, k), (n, k) if tb else (k, n)
    inputs = [d.new(d.array(np.float32, a)), d.new(d.array(np.float32, b))]
    if d.chance(0.7):
        inputs.append(d.new(d.array(np.float32, d.pick([(n,), (1, n), (m, 1), (m, n), (), (1,)]))))
    attributes = {"alpha": d.pick([None, 0.5]), "beta": d.pick([None, 0.0, 2.0]), "transA": ta, "transB": tb}
    d.node("Gemm", inputs, **attributes)


def einsum(d):
    size = {label: d.dim() for label in "abcde"}
    terms = ["".join(d.random.permutation(list("abcde"))[: d.integer(0, 3)]) for _ in range(d.integer(1, 3))]
    labels = sorted(set("".join(terms)))
    out = "".join(d.random.permutation(labels)[: d.integer(0, len(labels))]) if labels else ""
    arrays = [d.new(d.array(np.float32, tuple(size[c] for c in term), wild=False)) for term in terms]
    d.node("Einsum", arrays, equation=",".join(terms) + "->" + out)


def window(d, rank, kernel):
    attributes = {"dilations": [d.integer(1, 2) for _ in kernel], "strides": [d.integer(1, 3) for _ in kernel]}
    if d.chance(0.25):
        attributes["auto_pad"] = d.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
        attributes["dilations"] = [1] * rank
        # ONNX Runtime cuts off what a window that is smaller than its step leaves over, for some ops.
        attributes["strides"] = [min(k, d.integer(1, 3)) for k in kernel]
    else:
        attributes["pads"] = [d.integer(0, k - 1) for k in kernel + kernel]
    return attributes


def conv(d):
    rank, groups = d.integer(1, 3), d.pick([1, 1, 1, 2, 3])
    channels = groups * d.pick([1, 1, 2, 3, 8])
    filters = groups * d.pick([1, 2, 3, 5, 16])
    kernel = [d.pick([1, 2, 3, 5]) for _ in range(rank)]
    x = d.new(d.array(np.float32, (d.integer(1, 2), channels, *(d.integer(5, 13) for _ in kernel))))
    inputs = [x, d.new(d.array(np.float32, (filters, channels // groups, *kernel), wild=False))]
    if d.chance(0.6):
        inputs.append(d.new(d.array(np.float32, (filters,))))
    d.node("Conv", inputs, group=groups, kernel_shape=kernel, **window(d, rank, kernel))


def conv_transpose(d):
    rank, groups = d.integer(1, 2), d.pick([1, 1, 2])
    channels, filters = groups * d.pick([1, 2, 4]), d.pick([1, 2, 5])
    kernel = [d.pick([1, 2, 3, 4]) for _ in range(rank)]
    strides = [d.integer(1, 3) for _ in kernel]
    x = d.new(d.array(np.float32, (d.integer(1, 2), channels, *(d.integer(1, 7) for _ in kernel))))
    inputs = [x, d.new(d.array(np.float32, (channels, filters, *kernel), False))]
    pads = [d.integer(0, (k - 1) // 2) for k in kernel + kernel]
    extra = [d.integer(0, s - 1) for s in strides]
    d.node("ConvTranspose", inputs, group=groups, strides=strides, pads=pads, output_padding=extra)


def pool(d):
    rank = d.integer(1, 3)
    kernel = [d.pick([1, 2, 3]) for _ in range(rank)]
    x = d.new(d.array(np.float32, (d.integer(1, 2), d.integer(1, 9), *(d.integer(5, 12) for _ in kernel)), False))
    attributes = window(d, rank, kernel)
    op = d.pick(["MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool"])
    if op.startswith("Global"):
        d.node(op, [x])
        return
    if op == "AveragePool":
        attributes["count_include_pad"] = d.integer(0, 1)
    if "auto_pad" not in attributes:
        attributes["ceil_mode"] = d.integer(0, 1)
    if op == "LpPool":
        attributes["ceil_mode"] = None
    d.node(op, [x], kernel_shape=kernel, **attributes)


def norm(d):
    x = d.value([np.float32], rank=d.integer(2, 4))
    if (np.abs(np.nan_to_num(d.of(x))) > 1e15).any():  # squares overflow, or not, by how they are summed
        x = d.new(d.array(np.float32, d.of(x).shape, False))
    shape = d.of(x).shape
    op = d.pick(["BatchNormalization", "InstanceNormalization", "LayerNormalization", "Softmax", "LogSoftmax",
                 "Hardmax", "LpNormalization", "LRN", "GroupNormalization"])  # fmt: skip

    if op == "Hardmax":  # which of several elements is the largest is not defined where one is NaN
        x = d.new(np.nan_to_num(d.of(x)))

    def vector(n, positive=False):
        a = d.array(np.float32, n, False)
        return d.new(np.abs(a) + 0.1 if positive else a)

    if op == "BatchNormalization":
        d.node(op, [x, *(vector((shape[1],)) for _ in range(3)), vector((shape[1],), True)])
    elif op == "InstanceNormalization":
        if np.prod(shape[2:]) > 1:  # the difference of one element to its mean is all rounding
            d.node(op, [x, vector((shape[1],)), vector((shape[1],))])
    elif op == "LayerNormalization":
        axis = d.integer(0, len(shape) - 1)
        d.node(op, [x, vector(shape[axis:]), *([vector(shape[axis:])] if d.chance(0.6) else [])], axis=axis)
    elif op == "GroupNormalization":
        if shape[1]:
            groups = d.pick([g for g in range(1, shape[1] + 1) if shape[1] % g == 0])
            d.node(op, [x, vector((shape[1],)), vector((shape[1],))], num_groups=groups)
    elif op == "LRN":
        d.node(op, [x], size=d.pick([1, 3, 5]))
    else:
        d.node(op, [x], axis=d.axis(len(shape)), p=d.integer(1, 2) if op == "LpNormalization" else None)


def recurrent(d):
    op, gates = d.pick([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    steps, batch, width, hidden = d.integer(1, 5), d.integer(1, 4), d.integer(1, 9), d.integer(1, 9)
    direction = d.pick(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    small = lambda *s: d.new(d.array(np.float32, s, False) * np.float32(0.3))  # noqa: E731
    inputs = [small(steps, batch, width), small(ways, gates * hidden, width), small(ways, gates * hidden, hidden)]
    inputs.append(small(ways, 2 * gates * hidden) if d.chance(0.7) else "")
    # After no steps the state is the first one; ONNX Runtime gives zeros.
    lengths = d.random.integers(1, steps, batch, endpoint=True).astype(np.int32)
    inputs.append(d.new(lengths) if d.chance(0.3) else "")
    inputs.append(small(ways, batch, hidden) if d.chance(0.5) else "")
    if op == "LSTM" and d.chance(0.3):
        inputs += [small(ways, batch, hidden), small(ways, 3 * hidden)]
    attributes = {"direction": direction, "hidden_size": hidden}
    if op == "GRU":
        attributes["linear_before_reset"] = d.integer(0, 1)
    d.node(op, inputs, outputs=3 if op == "LSTM" else 2, **attributes)


def resize(d):
    rank = d.integer(1, 2)
    x = d.new(d.array(np.float32, (1, d.integer(1, 3), *(d.integer(1, 9) for _ in range(rank))), False))
    mode = d.pick(["nearest", "linear", "cubic"] if rank == 2 else ["nearest", "linear"])
    attributes = {"mode": mode, "coordinate_transformation_mode": d.pick(["half_pixel", "align_corners", "asymmetric",
                  "pytorch_half_pixel"])}  # fmt: skip
    if mode == "nearest":
        attributes["nearest_mode"] = d.pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    sizes = np.array([*d.of(x).shape[:2], *(d.integer(1, 12) for _ in range(rank))], np.int64)
    # With scales the standard aligns the corners of an extent that need not be whole, ONNX Runtime of a whole one.
    if d.chance(0.5) or attributes["coordinate_transformation_mode"] == "align_corners":
        d.node("Resize", [x, "", "", d.constant(sizes)], **attributes)
    else:
        scales = np.array([1, 1, *(d.pick([0.5, 1, 2, 1.5, 0.7, 3]) for _ in range(rank))], np.float32)
        d.node("Resize", [x, "", d.constant(scales)], **attributes)


def grid_sample(d):
    x = d.new(d.array(np.float32, (1, 2, d.integer(1, 6), d.integer(1, 6)), False))
    grid = d.new(d.random.uniform(-1.4, 1.4, (1, d.integer(1, 4), d.integer(1, 4), 2)).astype(np.float32))
    attributes = {"mode": d.pick(["linear", "nearest"]), "padding_mode": d.pick(["zeros", "border", "reflection"])}
    d.node("GridSample", [x, grid], align_corners=d.integer(0, 1), **attributes)


def quantize(d):
    x = d.value([np.float32], least=1)
    to = d.pick([np.uint8, np.int8, np.uint16, np.int16])
    axis = d.integer(0, d.of(x).ndim - 1)
    many = (d.of(x).shape[axis],) if d.chance(0.4) else ()
    scale = d.constant(np.abs(d.random.normal(0, 0.1, many)).astype(np.float32) + np.float32(0.01))
    zero = d.constant(d.random.integers(0, 9, many).astype(to))
    [q] = d.node("QuantizeLinear", [d.new(np.nan_to_num(d.of(x))), scale, zero], axis=axis)
    d.nodes.append(helper.make_node("DequantizeLinear", [q, scale, zero], [q + "r"], axis=axis))


def dequantize(d):
    x = d.value([np.uint8, np.int8, np.int32], least=1)
    scale = d.constant(np.abs(d.random.normal(0, 0.1, ())).astype(np.float32) + np.float32(0.01))
    zero = [d.constant(np.zeros((), d.of(x).dtype))] if d.chance(0.5) else []
    d.node("DequantizeLinear", [x, scale, *zero])


def quantized_product(d):
    m, k, n = d.integer(1, 9), d.integer(1, 20), d.integer(1, 20)
    left, right = d.pick([np.uint8, np.int8]), d.pick([np.uint8, np.int8])
    a, b = d.new(d.array(left, (m, k), True)), d.new(d.array(right, (k, n), True))
    zeros = [d.constant(np.array(3, left)), d.constant(np.array(2, right))]
    if d.chance(0.5):
        d.node("MatMulInteger", [a, b, *zeros])
    else:
        scale = lambda: d.constant(np.float32(d.random.uniform(0.01, 0.1)))  # noqa: E731
        d.node("QLinearMatMul", [a, scale(), zeros[0], b, scale(), zeros[1], scale(), d.constant(np.array(9, left))])


def top(d):
    x = d.value([np.float32, np.int64], least=1)
    axis = d.axis(d.of(x).ndim)
    a = np.nan_to_num(d.of(x))
    k = d.constant(np.array([d.integer(0, a.shape[axis])], np.int64))
    d.node("TopK", [d.new(a), k], outputs=2, axis=axis, largest=d.integer(0, 1))


def other(d):
    """Ops of few choices."""
    op = d.pick(["Shape", "Size", "NonZero", "OneHot", "Trilu", "DepthToSpace", "SpaceToDepth", "EyeLike", "Range",
                 "ReverseSequence", "Compress", "Unique", "ConstantOfShape", "Col2Im", "CenterCropPad",
                 "Det"])  # fmt: skip
    if op in ("Shape", "Size", "NonZero"):
        d.node(op, [d.value(ANY, least=1)])
    elif op == "OneHot":
        ids = d.random.integers(-5, 5, d.shape(d.integer(0, 2))).astype(np.int64)
        d.node(op, [d.new(ids), d.constant(np.array(5, np.int64)), d.new(np.float32([0, 1]))], axis=d.pick([-1, 0]))
    elif op == "Trilu":
        x = d.value([np.float32, np.int64], rank=d.integer(2, 3))
        d.node(op, [x, d.new(np.array(d.integer(-3, 3), np.int64))], upper=d.integer(0, 1))
    elif op in ("DepthToSpace", "SpaceToDepth"):
        x = d.new(d.array(np.float32, (1, 8, 4, 6)))
        d.node(op, [x], blocksize=2, mode=d.pick(["DCR", "CRD"]) if op == "DepthToSpace" else None)
    elif op == "EyeLike":
        d.node(op, [d.value([np.float32, np.int64], rank=2)], k=d.integer(-2, 2))
    elif op == "Range":
        d.node(op, [d.new(np.array(v, np.int64)) for v in (d.integer(-5, 5), d.integer(-5, 9), d.pick([1, 2, -1, 3]))])
    elif op == "ReverseSequence":
        x = d.new(d.array(np.float32, (4, 3, 2)))
        d.node(op, [x, d.new(d.random.integers(0, 4, 3, endpoint=True).astype(np.int64))], batch_axis=1, time_axis=0)
    elif op == "Compress":
        x = d.value(ANY, least=1)
        axis = d.integer(0, d.of(x).ndim - 1)
        d.node(op, [x, d.new(d.array(bool, (d.of(x).shape[axis],)))], axis=axis)
    elif op == "Unique":
        d.node(op, [d.new(d.array(np.float32, d.shape(1), False).round())], outputs=4, sorted=d.integer(0, 1))
    elif op == "ConstantOfShape":
        d.node(op, [d.new(np.array(d.shape(), np.int64))])
    elif op == "Col2Im":
        x = d.new(d.array(np.float32, (1, 2 * 9, 16), False))
        d.node(op, [x, d.constant(np.int64([6, 6])), d.constant(np.int64([3, 3]))])
    elif op == "CenterCropPad":
        d.node(op, [d.value([np.float32], rank=2), d.constant(np.int64([d.integer(1, 9), d.integer(1, 9)]))])
    else:
        n = d.integer(1, 4)
        d.node(op, [d.new(d.array(np.float32, (n, n), False))])


MAKERS = [
    sign, unary(["Abs", "Neg"], FLOATS + [np.int64, np.int32, np.int8]),
    unary(["Ceil", "Floor", "Round", "Sqrt", "Exp", "Log", "Reciprocal", "Erf", "Identity"], [np.float32]),
    circular, unary(["Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"], [np.float32]),
    unary(["IsNaN", "IsInf"], [np.float32]), unary(["Not"], [bool]), unary(["BitwiseNot"], [np.int32, np.uint8]),
    binary(["Add", "Sub", "Mul"], FLOATS + [np.int64, np.int32, np.int8, np.uint8]),
    binary(["Min", "Max"], [np.float32, np.float64, np.int64, np.int32]),
    binary(["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"], [np.float32, np.int64, np.int32]),
    binary(["And", "Or", "Xor"], [bool]), binary(["BitwiseAnd", "BitwiseOr", "BitwiseXor"], [np.int32, np.uint8]),
    binary(["PRelu"], [np.float32]), activation, activation, shift, power, divide, where, clip, reduce, reduce, arg,
    cumsum, cast, cast, reshape, transpose, flatten, squeeze, expand, tile, cut, cut, split, concat, pad, gather,
    gather_elements, gather_nd, scatter, matmul, gemm, einsum, conv, conv, conv_transpose, pool, pool, norm, norm,
    recurrent, resize, grid_sample, quantize, dequantize, quantized_product, top, other, other,
]  # fmt: skip
