//! ONNX in and out of the graph IR.
