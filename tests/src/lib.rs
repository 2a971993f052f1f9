//! Filetests, ONNX node tests, end-to-end tests.
