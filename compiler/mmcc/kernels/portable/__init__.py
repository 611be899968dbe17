# SPDX-License-Identifier: Apache-2.0
"""Kernels in plain C, which every target runs."""
