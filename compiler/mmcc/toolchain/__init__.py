"""A target's compiler and linker, and what they tell of the result."""

from mmcc.toolchain.build import (
    STRICT_FLAGS,
    RegionOverflow,
    compile_objects,
    find_tool,
    firmware_sources,
    link,
    run_tool,
    write_linker_script,
)
from mmcc.toolchain.footprint import Footprint, measure
from mmcc.toolchain.stack import StackBound, stack_bounds

__all__ = [
    "STRICT_FLAGS",
    "Footprint",
    "RegionOverflow",
    "StackBound",
    "compile_objects",
    "find_tool",
    "firmware_sources",
    "link",
    "measure",
    "run_tool",
    "stack_bounds",
    "write_linker_script",
]
