# SPDX-License-Identifier: Apache-2.0
"""A target's compiler and linker, and what they tell of the result."""

from mmcc.toolchain.build import (
    CODE_FLAGS,
    STRICT_FLAGS,
    PackageBuild,
    RegionOverflow,
    compile_objects,
    find_tool,
    firmware_sources,
    link,
    package_build,
    run_tool,
    write_linker_script,
)
from mmcc.toolchain.size import Footprint, measure
from mmcc.toolchain.stack import StackBound, stack_bounds

__all__ = [
    "CODE_FLAGS",
    "STRICT_FLAGS",
    "Footprint",
    "PackageBuild",
    "RegionOverflow",
    "StackBound",
    "compile_objects",
    "find_tool",
    "firmware_sources",
    "link",
    "measure",
    "package_build",
    "run_tool",
    "stack_bounds",
    "write_linker_script",
]
