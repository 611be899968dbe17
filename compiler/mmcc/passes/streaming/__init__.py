# SPDX-License-Identifier: Apache-2.0
"""A model of a whole sequence to one of a hop of it: `stream_graph` in `stream.py`."""
