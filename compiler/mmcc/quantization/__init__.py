# SPDX-License-Identifier: Apache-2.0
"""From a float ONNX file to an int8 one, by ONNX Runtime's quantizer; what it costs and where."""
