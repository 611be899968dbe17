# SPDX-License-Identifier: Apache-2.0
"""Kernels with vectors of the host's kind: AVX2 and VNNI, or NEON."""
