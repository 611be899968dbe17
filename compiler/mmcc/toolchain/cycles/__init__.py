# SPDX-License-Identifier: Apache-2.0
"""Cycles from executed instructions: `decode.py` reads Thumb, one file a kind of core says what it takes.

`model.py` is where to start.
"""
