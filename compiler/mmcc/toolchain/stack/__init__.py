# SPDX-License-Identifier: Apache-2.0
"""Bounds on the stack of linked programs, one file an instruction set."""

from mmcc.toolchain.stack.walk import StackBound, stack_bounds

__all__ = ["StackBound", "stack_bounds"]
