# SPDX-License-Identifier: Apache-2.0
"""Does a package compute what ONNX Runtime does, on this machine or an emulated board, and how fast?"""
