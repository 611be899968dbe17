# SPDX-License-Identifier: Apache-2.0
"""ONNX operators to graph nodes, one file a family."""
