# SPDX-License-Identifier: Apache-2.0
"""Operators written out in others for the shapes of a node, one file a family."""
