# SPDX-License-Identifier: Apache-2.0
"""Convicts plans and lowered programs that are wrong. It imports nothing of the planner or the kernels."""
