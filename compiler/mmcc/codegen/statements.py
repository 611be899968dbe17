# SPDX-License-Identifier: Apache-2.0
"""Statements of a program as the lines of the function that runs the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mmcc.codegen.loops import CHUNK, STRIP
from mmcc.codegen.names import escape
from mmcc.codegen.render import Kernel
from mmcc.codegen.shared_counts import MADE, SharedCounts
from mmcc.codegen.types import smallest_type
from mmcc.ir.program import (
    Address,
    Batch,
    BufferMove,
    ByBlocks,
    Call,
    Columns,
    Copy,
    Count,
    Counts,
    EntryCode,
    Following,
    For,
    Function,
    InChunks,
    MakeRows,
    Moves,
    Program,
    ProgramNode,
    Start,
    Step,
    Stmt,
    Table,
    Wait,
)

STREAM_KERNELS = ("read_rows", "write_rows")
PAGE_KERNELS = ("page_out", "page_in")


def task_name(prefix: str, node: int) -> str:
    """The function that makes a chunk of a node, as C numbers it."""
    return f"{prefix}_chunk_of_n{node}"


def tasks_of(program: Program, prefix: str) -> list[str]:
    """The functions that make chunks."""
    return [
        task_name(prefix, entry.first + statement.call.node)
        for entry in program.entries
        for step in entry.body
        for statement in step.body
        if isinstance(statement, InChunks)
    ]


def columns_of(entries: Sequence[EntryCode], prefix: str = "") -> dict[tuple[Columns, ...], str]:
    """A name for each distinct list of columns, one entry a strip."""
    calls = [call for entry in entries for step in entry.body for call in _calls(step)]
    every = dict.fromkeys(call.columns for call in calls)
    return {columns: f"{prefix}columns_{k}" for k, columns in enumerate(every)}


def column_type(columns: Iterable[tuple[Columns, ...]]) -> str:
    """The smallest C type that holds every column number."""
    return smallest_type(
        v for strips in columns for c in strips for v in (c.begin, c.end, c.output, *c.inputs)
    )


def _calls(statement: Stmt) -> list[Call]:
    match statement:
        case Call():
            return [statement]
        case ByBlocks() | InChunks():
            return [statement.call]
        case Count() | Counts() | Table() | MakeRows() | Moves() | Start() | Wait() | Copy():
            return []
        case Step():
            inside = [inner for function in statement.functions for inner in function.body]
            return [call for inner in (*inside, *statement.body) for call in _calls(inner)]
        case _:
            return [call for inner in statement.body for call in _calls(inner)]


@dataclass(frozen=True, slots=True)
class Body:
    """Prints the statements of an entry's function. In C its nodes are numbered from `first` on."""

    prefix: str
    kernel_of: dict[str, Kernel]
    columns: dict[tuple[Columns, ...], str]
    nodes: dict[int, ProgramNode]
    first: int
    shared: SharedCounts | None = None
    hooks: bool = True  # the user's functions may see each step begin and end

    def functions(self, body: Sequence[Stmt]) -> list[str]:
        """The functions of all steps, and the types of the counts that they go on with."""
        lines: list[str] = []
        for step in (step for step in body if isinstance(step, Step)):
            for statement in step.body:
                if isinstance(statement, InChunks):
                    lines += self._task(statement)
            if step.functions:
                last, shared = self._label(step.nodes[-1]), self._shared(step)
                lines += ["", f"/* Rows made so far of what {last} and others ask for. */", *shared.declared]
                for function in step.functions:
                    lines += self._function(function, replace(shared, pointed=True))
        return lines

    def _function(self, function: Function, shared: SharedCounts) -> list[str]:
        """What makes rows of a node for all that ask for them."""
        return [
            "",
            f"/* Makes rows of {self._label(function.node)} until there are so many. */",
            f"{self.prefix.upper()}_CODE_ATTRIBUTE",
            f"static void {self._maker(function.node)}({shared.parameters}, int32_t until)",
            "{",
            *(f"    {line}" for line in replace(self, shared=shared).lines(function.body)),
            "}",
        ]

    def _task(self, statement: InChunks) -> list[str]:
        """What makes one chunk of a node's output."""
        return [
            "",
            f"/* Makes chunk `chunk` of {self._label(statement.call.node)}, of {statement.count}. */",
            f"{self.prefix.upper()}_CODE_ATTRIBUTE",
            f"static void {task_name(self.prefix, self.first + statement.call.node)}"
            "(void *work, int32_t chunk)",
            "{",
            f"    uint8_t *const *const memory = ((const {self.prefix}_work *)work)->memory;",
            *(f"    {line}" for line in self._chunk(statement)),
            "}",
        ]

    def _chunk(self, statement: InChunks) -> list[str]:
        """The call for a chunk; where each has a kernel, that one's."""
        call = statement.call
        if not statement.by_channels:
            return [self._call(call, index=CHUNK)]
        *first, last = (self._call(call, label, CHUNK) for label, _ in self.nodes[call.node].uses)
        cases = [
            line
            for chunk, text in enumerate(first)
            for line in (f"case {chunk}:", f"    {text}", "    break;")
        ]
        return ["switch (chunk) {", *cases, "default:", f"    {last}", "    break;", "}"]

    def lines(self, body: Sequence[Stmt]) -> list[str]:
        lines: list[str] = []
        for statement in body:
            match statement:
                case Step():
                    lines += self._step(statement)
                case Count() | Counts():
                    lines.append(self._counts(statement))
                case MakeRows():
                    arguments = f"{self._struct().arguments}, {self._in_c(statement.until)}"
                    lines.append(f"{self._maker(statement.node)}({arguments});")
                case Table():
                    values = ", ".join(map(str, statement.values))
                    ctype = smallest_type(statement.values)
                    lines.append(f"static const {ctype} {statement.name}[] = {{{values}}};")
                case For():
                    lines.append(self._for_head(statement))
                    lines += [f"    {line}" for line in self.lines(statement.body)]
                    lines.append("}")
                case Call():
                    lines.append(self._call(statement))
                case InChunks():
                    task = task_name(self.prefix, self.first + statement.call.node)
                    fetched = self._memory(statement.call)
                    lines.append(f"{self.prefix}_in_chunks(context, {fetched}, {task}, {statement.count});")
                case Start() | Wait() | Copy():
                    lines += self._move(statement)
                case Moves():
                    lines += [
                        "",
                        f"/* before step {statement.step} of the plan */",
                        *self.lines(statement.body),
                    ]
                case ByBlocks():
                    lines += self._by_blocks(statement)
                case Batch():
                    lines += [
                        f"const int32_t {statement.var}_end = {statement.until};",
                        f"if ({statement.var} < {statement.var}_end) {{",
                        *(f"    {line}" for line in self.lines(statement.body)),
                        f"    {statement.var} = {statement.var}_end;",
                        "}",
                    ]
        return lines

    def _counts(self, statement: Count | Counts) -> str:
        if isinstance(statement, Count):
            return f"int32_t {statement.var} = 0;"
        return f"{self._struct().struct} {MADE} = {{0}};"

    def _move(self, statement: Start | Wait | Copy) -> list[str]:
        move = statement.move
        if isinstance(move, BufferMove):
            return self._move_buffer(statement, move)
        if isinstance(statement, Wait):
            return self._take(move.node, "0", statement.following)
        first = f"{self._label(move.node)}_blocks.place[0]"
        return self._or_fail(f"begin_block(context, {self._blocks(move.node)}, 0, {first})")

    def _move_buffer(self, statement: Start | Wait | Copy, move: BufferMove) -> list[str]:
        ends = f"{self._address(move.target)}, {self._address(move.source)}, {move.bytes}u"
        about = f"/* {escape(move.buffer, 60)}: {move.source.memory} to {move.target.memory} */"
        if isinstance(statement, Copy):
            return [about, f"memcpy({ends});"]
        call = f"start_move(context, {move.number}, {ends})"
        if isinstance(statement, Wait):
            call = f"wait_move(context, {move.number})"
        failed = [f"if (!{self.prefix}_{call}) {{", "    return MMCC_ERROR_MOVE;", "}"]
        stale = f"MMCC_CACHE_INVALIDATE({self._address(move.target)}, {move.bytes}u);"
        after = [stale] if move.invalidates else []
        if isinstance(statement, Wait):
            return [about, *failed, *after]
        clean = f"MMCC_CACHE_CLEAN({self._address(move.source)}, {move.bytes}u);"
        return [about, *([clean] if move.cleans else []), *after, *failed]

    def _address(self, address: Address) -> str:
        return f"memory[{self.prefix.upper()}_MEMORY_{address.memory.upper()}] + {address.offset}"

    def _take(self, node: int, block: str, following: Following) -> list[str]:
        then = self._blocks(following.node)
        if following.again:
            then = f"{following.again} ? {self._blocks(following.other)} : {then}"
        return self._or_fail(f"take_block(context, memory, {self._blocks(node)}, {block}, {then})")

    def _or_fail(self, call: str) -> list[str]:
        return [f"if (!{self.prefix}_{call}) {{", "    return MMCC_ERROR_WEIGHTS;", "}"]

    def _by_blocks(self, statement: ByBlocks) -> list[str]:
        """A loop over blocks, a new one where the next are packed for another kernel."""
        call = statement.call
        node = self.nodes[call.node]
        blocks = node.blocks
        assert blocks is not None
        upper = self.prefix.upper()
        name = f"block_{call.node}"

        def use(label: str, block: str) -> list[str]:
            base = f"memory[{upper}_MEMORY_{blocks.memory.upper()}]"
            return [
                *self._take(call.node, block, statement.following),
                f"memory[{upper}_MEMORY_SLICE] = {base} + {block} * {blocks.step};",
                self._call(call, label),
            ]

        arena = f"memory[{upper}_MEMORY_{blocks.arena.upper()}]"  # that of all constants of the group
        again = [f"memory[{upper}_MEMORY_WEIGHTS] = {arena};"] if statement.mixed else []
        if blocks.count == 1:
            return [*self._take(call.node, "0", statement.following), self._call(call), *again]
        lines: list[str] = []
        first = 0
        for kind, some in groupby(node.kinds):
            end = first + len(list(some))
            label = node.uses[kind][0]
            if end == first + 1:
                lines += use(label, str(first))
            else:
                lines += [
                    f"for (int32_t {name} = {first}; {name} < {end}; ++{name}) {{",
                    *(f"    {line}" for line in use(label, name)),
                    "}",
                ]
            first = end
        return [*lines, *again]

    def _step(self, step: Step) -> list[str]:
        upper = self.prefix.upper()
        nodes = [self.first + node for node in step.nodes]
        before, after = f"{upper}_BEFORE({nodes[0]});", f"{upper}_AFTER({nodes[-1]});"
        within = replace(self, shared=self._shared(step)) if step.functions else self
        body = [before, *within.lines(step.body), after] if self.hooks else within.lines(step.body)
        templates = {self.kernel_of[self._label(call.node)].template for call in _calls(step)}
        if not templates.isdisjoint(STREAM_KERNELS):
            body += ["if (context->streams.failed != 0) {", "    return MMCC_ERROR_STREAM;", "}"]
        if not templates.isdisjoint(PAGE_KERNELS):
            body += ["if (context->pager.failed != 0) {", "    return MMCC_ERROR_MOVE;", "}"]
        if any(isinstance(statement, Count | Counts | Table) for statement in step.body):
            body = ["{", *(f"    {line}" for line in body), "}"]
        return ["", *_comment(step.comment), *body]

    def _call(self, call: Call, label: str = "", index: str = STRIP) -> str:
        label = label or self._label(call.node)
        name = self.columns[call.columns]
        columns = f"&{name}[{index}]" if len(call.columns) > 1 else name
        rows = f"{self._in_c(call.begin)}, {self._in_c(call.end)}"
        memory = "memory" if index == CHUNK else self._memory(call)
        return f"{self.kernel_of[label].name}({memory}, &{label}, {columns}, {rows});"

    def _memory(self, call: Call) -> str:
        """The list of memories that a node's kernel looks into."""
        fetched = self.nodes[call.node].fetched
        if self.nodes[call.node].in_ram:
            return f"memory + {self.prefix.upper()}_WEIGHTS_IN_RAM"
        return "memory" if fetched is None else f"memory + {self.fetched_macro(fetched.target.memory)}"

    def fetched_macro(self, memory: str) -> str:
        """Where in the list of memories those begin with which constants are found in an arena."""
        return f"{self.prefix.upper()}_WEIGHTS_IN_{memory.upper()}"

    def _for_head(self, loop: For) -> str:
        var, extent = self._in_c(loop.var), self._in_c(loop.extent)
        if loop.backward:
            return f"for (int32_t {var} = {extent} - 1; {var} >= 0; --{var}) {{"
        start = f"int32_t {var} = 0" if loop.fresh else ""
        step = f"++{var}" if loop.step == 1 else f"{var} += {loop.step}"
        return f"for ({start}; {var} < {extent}; {step}) {{"

    def _in_c(self, expression: str) -> str:
        return expression if self.shared is None else self.shared.in_c(expression)

    def _struct(self) -> SharedCounts:
        assert self.shared is not None
        return self.shared

    def _shared(self, step: Step) -> SharedCounts:
        strips = any(len(call.columns) > 1 for call in _calls(step))
        return SharedCounts.of(step, f"{self.prefix}_made_for_{self._label(step.nodes[-1])}", strips=strips)

    def _maker(self, node: int) -> str:
        return f"{self.prefix}_make_{self._label(node)}"

    def _label(self, node: int) -> str:
        return f"n{self.first + node}"

    def _blocks(self, node: int | None) -> str:
        return "NULL" if node is None else f"&{self._label(node)}_blocks"


def _comment(lines: Sequence[str]) -> list[str]:
    if len(lines) == 1:
        return [f"/* {lines[0]} */"]
    return [f"/* {lines[0]}", *(f" * {line}" for line in lines[1:-1]), f" * {lines[-1]} */"]
