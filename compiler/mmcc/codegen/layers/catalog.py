"""Imports every family of layers, so that the registry is complete."""

from __future__ import annotations

from mmcc.codegen.layers import elementwise  # noqa: F401
