"""mmcc: an ahead-of-time compiler from ONNX to plain C, under a proved RAM limit."""
