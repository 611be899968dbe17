# SPDX-License-Identifier: Apache-2.0
"""The error for what cannot be trained through."""

from __future__ import annotations

from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Node


def no_gradient(node: Node, reason: str = "") -> CompileError:
    """For a node that lies between parameters to be trained and the loss."""
    why = f": {reason}" if reason else ""
    message = f"{node.op} has no gradient, so nothing before it can be trained{why}"
    return CompileError("MM208", message, exit=Exit.UNSUPPORTED, at=node.where)
