# SPDX-License-Identifier: Apache-2.0
"""A picture as a file of its own, drawn by vl-convert. The only module that imports it."""

from __future__ import annotations

from typing import Any

from mmcc.errors import CompileError, Exit

CONFIG = {
    "background": "white",
    "font": "sans-serif",
    "axis": {"labelFontSize": 11, "titleFontSize": 12, "gridColor": "#dddddd"},
    "padding": 16,
}


def svg(spec: dict[str, Any]) -> str:
    """The text of an SVG file; CompileError (MM801) if the library is not installed."""
    try:
        import vl_convert
    except ImportError:
        what = "drawing a picture into a file needs vl-convert-python, which is not installed"
        hint = "pip install 'mmcc[plot]', or --html: browsers draw it themselves"
        raise CompileError("MM801", what, exit=Exit.TOOL_MISSING, hint=hint) from None
    return vl_convert.vegalite_to_svg({**spec, "config": CONFIG}, vl_version="5.21")
