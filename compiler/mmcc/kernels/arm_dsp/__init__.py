# SPDX-License-Identifier: Apache-2.0
"""Kernels for Arm's DSP extension (Cortex-M4, M7, M33)."""
