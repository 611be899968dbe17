# SPDX-License-Identifier: Apache-2.0
"""Tensors to bytes: views, allocations, lives, order, overlaps, offsets."""
