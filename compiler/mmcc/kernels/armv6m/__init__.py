# SPDX-License-Identifier: Apache-2.0
"""Kernels for Armv6-M (Cortex-M0, M0+ and M1): no DSP instructions, one multiplication of 32 bits."""
