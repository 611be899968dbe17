# SPDX-License-Identifier: Apache-2.0
"""Imports every family of gradient rules, so that the registry is complete."""

# pyright: reportUnusedImport=false
# ruff: noqa: F401

from __future__ import annotations

import mmcc.training.gradients.attention
import mmcc.training.gradients.elementwise
import mmcc.training.gradients.fourier
import mmcc.training.gradients.indexing
import mmcc.training.gradients.layers
import mmcc.training.gradients.movement
import mmcc.training.gradients.normalize
import mmcc.training.gradients.pooling
import mmcc.training.gradients.recurrent
