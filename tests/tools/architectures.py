"""Well-known architectures with random weights, for timing: what a kernel costs does not depend on the weights.

`write(NAME, PATH)` writes one of ARCHITECTURES as an ONNX file of batch 1: MobileNetV1 at two widths (Howard et al.
2017), MobileNetV2 (Sandler et al. 2018), ResNet-50 with its strides in the 3x3 convolutions (He et al. 2016, "v1.5"),
all on 224x224 pictures, and a BERT encoder (Devlin et al. 2018) of 6 layers of 384 channels on 128 embedded tokens.
"""

import math

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

OPSET = 17


class Net:
    """A graph under construction: methods take and give the names of values."""

    def __init__(self):
        self.random = np.random.default_rng(7)
        self.nodes = []
        self.constants = []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weights(self, *shape, fan_in):
        """Normal with the variance that keeps activations of one size (He et al. 2015)."""
        return self.constant(self.random.normal(0, math.sqrt(2 / fan_in), shape).astype(np.float32))

    def node(self, op, *inputs, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def conv(self, x, channels, filters, size, stride=1, depthwise=False, activation=None):
        per_group = 1 if depthwise else channels
        weights = self.weights(filters, per_group, size, size, fan_in=per_group * size * size)
        bias = self.weights(filters, fan_in=200)
        y = self.node(
            "Conv", x, weights, bias, strides=[stride] * 2, pads=[size // 2] * 4, group=channels if depthwise else 1
        )
        if activation == "relu6":
            zero, six = (self.constant(np.float32(v)) for v in (0, 6))
            return self.node("Clip", y, zero, six)
        return self.node("Relu", y) if activation == "relu" else y

    def linear(self, x, inputs, outputs):
        product = self.node("MatMul", x, self.weights(inputs, outputs, fan_in=2 * inputs))
        return self.node("Add", product, self.weights(outputs, fan_in=2000))

    def classifier(self, x, channels, classes=1000):
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.linear(pooled, channels, classes)

    def model(self, in_shape, out, out_shape):
        value = helper.make_tensor_value_info
        ends = [value("input", TensorProto.FLOAT, in_shape)], [value(out, TensorProto.FLOAT, out_shape)]
        graph = helper.make_graph(self.nodes, "network", *ends, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def pictures(body):
    """A network on pictures whose `body(net, input)` gives features and their channels."""
    net = Net()
    features, channels = body(net, "input")
    return net.model([1, 3, 224, 224], net.classifier(features, channels), [1, 1000])


def mobilenet_v1(net, x, width=1.0):
    channels = round(32 * width)
    x = net.conv(x, 3, channels, 3, stride=2, activation="relu6")
    for filters, stride in [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]:
        x = net.conv(x, channels, channels, 3, stride, depthwise=True, activation="relu6")
        x = net.conv(x, channels, round(filters * width), 1, activation="relu6")
        channels = round(filters * width)
    return x, channels


def mobilenet_v2(net, x):
    x, channels = net.conv(x, 3, 32, 3, stride=2, activation="relu6"), 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, filters, repeats, stride in stages:
        for block in range(repeats):
            step, wide, y = (1 if block else stride), channels * expansion, x
            if expansion > 1:
                y = net.conv(y, channels, wide, 1, activation="relu6")
            y = net.conv(y, wide, wide, 3, step, depthwise=True, activation="relu6")
            y = net.conv(y, wide, filters, 1)
            x = net.node("Add", x, y) if step == 1 and filters == channels else y
            channels = filters
    return net.conv(x, channels, 1280, 1, activation="relu6"), 1280


def resnet50(net, x):
    x = net.conv(x, 3, 64, 7, stride=2, activation="relu")
    x, channels = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for width, repeats, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for block in range(repeats):
            step = 1 if block else stride
            y = net.conv(x, channels, width, 1, activation="relu")
            y = net.conv(y, width, width, 3, step, activation="relu")
            y = net.conv(y, width, 4 * width, 1)
            x = x if block else net.conv(x, channels, 4 * width, 1, step)
            x, channels = net.node("Relu", net.node("Add", y, x)), 4 * width
    return x, channels


def bert(layers=6, hidden=384, heads=12, tokens=128):
    net, x = Net(), "input"
    per_head = hidden // heads
    to_heads = net.constant(np.array([1, tokens, heads, per_head]))
    from_heads = net.constant(np.array([1, tokens, hidden]))
    scale, sqrt_half, one, half = (net.constant(np.float32(v)) for v in (per_head**-0.5, 0.5**0.5, 1, 0.5))
    gamma, beta = net.constant(np.ones(hidden, np.float32)), net.constant(np.zeros(hidden, np.float32))

    def projected(x, perm):
        return net.node("Transpose", net.node("Reshape", net.linear(x, hidden, hidden), to_heads), perm=perm)

    def attention(x):
        q, k, v = (projected(x, perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = net.node("Softmax", net.node("Mul", net.node("MatMul", q, k), scale), axis=-1)
        mixed = net.node("Transpose", net.node("MatMul", scores, v), perm=[0, 2, 1, 3])
        return net.linear(net.node("Reshape", mixed, from_heads), hidden, hidden)

    def gelu(x):
        tail = net.node("Add", net.node("Erf", net.node("Mul", x, sqrt_half)), one)
        return net.node("Mul", net.node("Mul", x, tail), half)

    for _ in range(layers):
        x = net.node("LayerNormalization", net.node("Add", x, attention(x)), gamma, beta)
        wide = gelu(net.linear(x, hidden, 4 * hidden))
        x = net.node("LayerNormalization", net.node("Add", x, net.linear(wide, 4 * hidden, hidden)), gamma, beta)
    shape = [1, tokens, hidden]
    return net.model(shape, x, shape)


ARCHITECTURES = {
    "mobilenet_v1": lambda: pictures(mobilenet_v1),
    "mobilenet_v1_025": lambda: pictures(lambda net, x: mobilenet_v1(net, x, 0.25)),
    "mobilenet_v2": lambda: pictures(mobilenet_v2),
    "resnet50": lambda: pictures(resnet50),
    "bert": bert,
}


def write(name, path):
    """Writes one of ARCHITECTURES."""
    model = ARCHITECTURES[name]()
    checker.check_model(model)
    save(model, path)
