# SPDX-License-Identifier: Apache-2.0
"""The file of `--handoff`: which nodes functions of the user's compute, and what those functions ask for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast, get_args

from mmcc.codegen.names import is_identifier
from mmcc.errors import CompileError, Exit, did_you_mean, printable
from mmcc.ir.graph import Node
from mmcc.ir.handoff import Handoff
from mmcc.kernels.handoff import WEIGHT_AXES

MOST_ALIGN = 16  # of arenas and weights
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")  # of a node of the graph, never what it is named for
FOLDED = ("Pad", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast")  # nor these
TAKEN = frozenset(  # what headers that a package includes may have, and the code around a call
    [
        *("memory", "layer", "columns", "row_begin", "row_end", "call"),
        "NULL",
        "bool",
        "true",
        "false",
        "size_t",
        "ptrdiff_t",
        "offsetof",
        "memcpy",
        "memmove",
        "memset",
        "int8_t",
        "int16_t",
        "int32_t",
        "int64_t",
        "uint8_t",
        "uint16_t",
        "uint32_t",
        "uint64_t",
    ]
)
KEYS: dict[str, Any] = {
    "function": str,
    "operators": list[str],
    "nodes": list[str],
    "reads": str,
    "in_place": bool,
    "weights": str,
    "alignment": int,
    "scratch": int,
    "sources": list[str],
    "stack": int,
}
EXAMPLE = '[[handoff]] with function = "npu_conv", operators = ["Conv"] and sources = ["npu.c"]'


@dataclass(frozen=True, slots=True)
class Rule:
    """One table of the file: the nodes it is for, their function, and how that is measured."""

    handoff: Handoff
    operators: tuple[str, ...]  # of the model; empty: all
    nodes: tuple[str, ...]  # patterns of names in the model; empty: all
    sources: tuple[Path, ...]  # of the function; empty: only `stack` is known of it
    stack: int | None  # bytes, vouched for; None: measured

    def takes(self, node: Node) -> bool:
        """Whether a node of the graph is one that the rule names, and not one that may need no code."""
        if node.op.traits.alias is not None:
            return False
        own = [w for w in node.where if w.op not in CONVERSIONS] or list(node.where)
        main = [w for w in own if w.op not in FOLDED] or own
        ops, names = {w.op for w in main[:1]}, {w.name for w in own}
        named = any(fnmatchcase(name, pattern) for name in names for pattern in self.nodes)
        return (not self.operators or not ops.isdisjoint(self.operators)) and (not self.nodes or named)


def read_rules(path: Path | None) -> tuple[Rule, ...]:
    """The rules of a file, paths in it from its folder on. CompileError MM122 if it is wrong."""
    if path is None:
        return ()
    if not path.is_file():  # nor a pipe: a project looks at it again to see whether it has changed
        raise wrong_file(f"there is no file {path}", EXAMPLE)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise wrong_file(f"{path}: {error}", EXAMPLE) from error
    given = table.get("handoff")
    if set(table) != {"handoff"} or not isinstance(given, list) or not given:
        raise wrong_file(f"{path} is to have tables [[handoff]], and nothing else", EXAMPLE)
    rules = tuple(_rule(path, k, each) for k, each in enumerate(cast(list[Any], given)))
    for rule in rules:
        twins = [each for each in rules if each.handoff.function == rule.handoff.function]
        if len({replace(twin, operators=(), nodes=()) for twin in twins}) > 1:
            what = f"{path}: {rule.handoff.function} has several tables that ask for different things"
            raise wrong_file(what, "tables of one function differ in operators and nodes only")
    seen: dict[str, str] = {}
    for name in (rule.handoff.function for rule in rules):
        if seen.setdefault(name.upper(), name) != name:
            what = f"{path}: {name} and {seen[name.upper()]} differ in capitals only"
            raise wrong_file(what, "names that differ in more")
    return rules


def _rule(path: Path, number: int, value: Any) -> Rule:
    here = f"{path}, handoff {number + 1}"
    if not isinstance(value, dict):
        raise wrong_file(f"{here} is no table", EXAMPLE)
    table = cast(dict[str, Any], value)
    for key, given in table.items():
        if key not in KEYS:
            raise wrong_file(
                f'{here}: unknown key "{printable(key, 100)}"',
                f"{did_you_mean(key, list(KEYS))}one of {', '.join(KEYS)}",
            )
        if not _suits(given, KEYS[key]):
            raise wrong_file(f'{here}: "{key}" is not to be {given!r}', _FORMS[key])
    for key, fault in _faults(table):
        raise wrong_file(f"{here}: {fault}", _FORMS[key])
    whole = table.get("reads", "whole") == "whole"
    handoff = Handoff(
        table["function"],
        whole,
        table.get("in_place", False),
        table.get("weights", ""),
        table.get("alignment", 4) if whole else 1,
        table.get("scratch", 0),
    )
    sources = tuple((path.parent / name).resolve() for name in table.get("sources", ()))
    for source in sources:
        if not source.is_file():
            raise wrong_file(f"{here}: there is no file {source}", _FORMS["sources"])
    operators, nodes = (tuple(table.get(key, ())) for key in ("operators", "nodes"))
    return Rule(handoff, operators, nodes, sources, table.get("stack"))


_FORMS = {
    "function": 'function = "npu_conv", a name in C',
    "operators": 'operators = ["Conv"], as the model has them',
    "nodes": 'nodes = ["/features/*"], names of nodes of the model',
    "reads": 'reads = "whole", or "rows"',
    "in_place": "in_place = true, or false",
    "weights": 'weights = "HWIO", the letters OHWI or OI in any order',
    "alignment": "alignment = 16, or 1, 2, 4, 8",
    "scratch": "scratch = 1024, bytes",
    "sources": 'sources = ["npu.c"], C files in the folder of this file',
    "stack": "stack = 256, bytes that the function takes, where there are no sources to measure",
}


def _faults(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong in a table whose values are of the right types: key, sentence."""
    name = table.get("function", "")
    if not is_identifier(name) or name.lower().startswith("mmcc_") or name in TAKEN:
        yield "function", f'"{table.get("function", "")}" is no name of a function'
    if not table.get("operators") and not table.get("nodes"):
        yield "operators", "it is for no operator and no node"
    if table.get("reads", "whole") not in ("whole", "rows"):
        yield "reads", f'"{table["reads"]}" is no way to read'
    axes = {"".join(sorted(axes)) for axes in WEIGHT_AXES.values()}
    if "weights" in table and "".join(sorted(table["weights"])) not in axes:
        yield "weights", f'"{table["weights"]}" is no order of axes'
    align = table.get("alignment", 4)
    if align not in (1, 2, 4, 8, MOST_ALIGN):
        yield "alignment", f"an alignment of {align} cannot be promised"
    if "alignment" in table and table.get("reads") == "rows":
        yield "reads", "what is read by rows may be a part of a tensor, aligned to its elements"
    for key in ("scratch", "stack"):
        if not 0 <= table.get(key, 0) < 2**31:
            yield key, f"{table[key]} is no number of bytes"
    if not table.get("sources") and "stack" not in table:
        yield "stack", "nothing is known of the function's stack"
    if any(not name.endswith((".c", ".S")) for name in table.get("sources", ())):
        yield "sources", "sources are C files, or assembler's (.S)"


def _suits(value: Any, kind: Any) -> bool:
    if get_args(kind):
        return isinstance(value, list) and all(type(each) is str for each in cast(list[Any], value))
    return type(value) is kind


def wrong_file(message: str, hint: str) -> CompileError:
    """The error of a file that is wrong in itself, or for a model."""
    return CompileError("MM122", message, exit=Exit.USAGE, hint=hint)
