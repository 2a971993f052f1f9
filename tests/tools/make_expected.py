#!/usr/bin/env python3
"""Writes the prepared pictures and ONNX Runtime's outputs that the end-to-end tests compare with.

    pip install onnxruntime==1.32.0 onnx==1.23.2 numpy
    python3 tests/tools/make_expected.py [--raw FOLDER]

From `testdata/test_images.npz` and the six `testdata/*.onnx` it writes into `testdata/`:
    fashion_100.npz        the first 100 test pictures as the models take them: `input` f32 [100,1,28,28]
    fashion_100_labels.npz their classes: `labels` uint8 [100]
    <model>_expected.npz   ONNX Runtime's `logits` f32 [8,10] for the first 8 of them

`--raw` names a folder with `test_images.npy` and `test_labels.npy`; `test_images.npz` is then written first.
"""

import argparse
import os

import numpy as np
import onnxruntime as ort

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata")
MODELS = ["mlp", "lenet", "mobilenetv2", "resnet8", "vit", "lstm"]
PREPARED, EXPECTED = 100, 8


def at(name):
    return os.path.join(DATA, name)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--raw")
    raw = args.parse_args().raw
    if raw:
        images, labels = (np.load(os.path.join(raw, f"test_{k}.npy")) for k in ("images", "labels"))
        np.savez_compressed(at("test_images.npz"), images=images, labels=labels)
    with np.load(at("test_images.npz")) as f:
        images, labels = f["images"], f["labels"]

    x = images[:PREPARED, None].astype(np.float32) / np.float32(255)
    x = (x - np.float32(0.2860)) / np.float32(0.3530)
    np.savez_compressed(at("fashion_100.npz"), input=x)
    np.savez_compressed(at("fashion_100_labels.npz"), labels=labels[:PREPARED])
    for name in MODELS:
        session = ort.InferenceSession(at(f"{name}.onnx"), providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"input": x[:EXPECTED]})
        np.savez_compressed(at(f"{name}_expected.npz"), logits=logits)
        print(f"{name}: {logits.shape}, {(logits.argmax(1) == labels[:EXPECTED]).sum()} of {EXPECTED} right")


if __name__ == "__main__":
    main()
