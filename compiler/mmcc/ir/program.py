# SPDX-License-Identifier: Apache-2.0
"""Program level: the statements of the generated C file, with every address a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mmcc.errors import Where
from mmcc.ir.nest import Span
from mmcc.ir.regions import Region
from mmcc.ir.state import InitialState, SavedParameters


@dataclass(frozen=True, slots=True)
class Constant:
    """One array in the weights: its C name, its packed data, and its alignment in bytes."""

    name: str
    data: NDArray[Any]
    align: int = 4


@dataclass(frozen=True, slots=True)
class View:
    """How a kernel finds a tensor: row r begins at offset + (r mod rows) * row_stride bytes.

    `rows` is the ring length or the whole height; 1 repeats the row (broadcasting). Pixels of a row are
    `col_stride` elements apart. `memory` is a region, "weights" or an external input or output.
    """

    memory: str
    offset: int | Constant
    row_stride: int
    col_stride: int
    rows: int


Field = int | float | View | Constant


@dataclass(frozen=True, slots=True)
class KernelUse:
    """One node's kernel: a template, what its code is specialised for, and the node's numbers.

    Nodes with equal `template` and `options` share one C function; `fields` become a constant struct of the
    node in flash, in order. A Constant field is an offset into the weights, a View a small struct.
    The code may look up the first columns of `origins` operands.
    """

    template: str
    options: tuple[tuple[str, Any], ...]
    fields: tuple[tuple[str, Field], ...]
    origins: int = 3  # no kernel with a fixed number of operands has more

    @property
    def channels(self) -> int | None:
        """Output channels that the kernel makes, if a field says so."""
        fields = dict(self.fields)
        found = next(
            (fields[name] for name in ("out_channels", "outputs", "filters") if name in fields), None
        )
        return found if isinstance(found, int) else None


@dataclass(frozen=True, slots=True)
class Columns:
    """Output columns [begin, end) of a call, and the first column that each view holds.

    `inputs` has one for each operand of the node, but for those after the last that is not 0.
    """

    begin: int
    end: int
    inputs: tuple[int, ...] = ()
    output: int = 0

    @staticmethod
    def of(made: Span, inputs: Sequence[int], output: int) -> Columns:
        """Columns `made`; one origin an operand, so that equal ones are equal."""
        last = max((k for k, first in enumerate(inputs) if first), default=-1)
        return Columns(made.lo, made.hi, tuple(inputs[: last + 1]), output)

    def origin(self, operand: int) -> int:
        """The first column that the memory of operand number `operand` holds."""
        return self.inputs[operand] if operand < len(self.inputs) else 0


@dataclass(frozen=True, slots=True)
class Call:
    """Run a node's kernel on output rows [begin, end); both are C expressions over loop variables.

    `columns` has one entry, or one for each value of the variable `strip`.
    """

    node: int
    columns: tuple[Columns, ...]
    begin: str
    end: str


@dataclass(frozen=True, slots=True)
class InChunks:
    """A call for each value of the variable `chunk` below `count`, in any order or at the same time.

    Either the rows depend on it, or `call` has columns for each value, or each has a kernel: some channels.
    """

    call: Call
    count: int
    by_channels: bool = False


@dataclass(frozen=True, slots=True)
class Constants:
    """The moves of a node's constants out of their file: of one block after the other."""

    node: int


@dataclass(frozen=True, slots=True)
class Address:
    """A byte of a memory."""

    memory: str
    offset: int


@dataclass(frozen=True, slots=True)
class BufferMove:
    """The move of a buffer. Those that go on while the model computes have numbers, from 0 on.

    `cleans` and `invalidates` tell whether the source and the target of such a one are behind a data cache.
    """

    buffer: str
    source: Address
    target: Address
    bytes: int
    number: int | None = None
    cleans: bool = False
    invalidates: bool = False


@dataclass(frozen=True, slots=True)
class Following:
    """The node whose constants are moved next; while `again` holds, a C expression, it is another one."""

    node: int | None
    again: str = ""
    other: int | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Start a move."""

    move: Constants | BufferMove


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a move. If it is of constants, which then stay in the arena, start that of the `following`."""

    move: Constants | BufferMove
    following: Following = Following(None)


@dataclass(frozen=True, slots=True)
class Copy:
    """A move that blocks."""

    move: BufferMove


@dataclass(frozen=True, slots=True)
class ByBlocks:
    """A call for each block of a node's constants: wait for its move, start the next one, call.

    If others of the group stay in the arena (`mixed`), they must be found again afterwards.
    """

    call: Call
    following: Following
    mixed: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """`if (var < until) body; var = until`: rows of an inner node that one call makes."""

    var: str
    until: str
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class For:
    """`for (int32_t var = 0; var < extent; var += step) body`; `backward` counts down instead.

    A demand-driven loop is not fresh: its variable goes on from where it stood.
    """

    var: str
    extent: str
    body: tuple[Stmt, ...]
    fresh: bool = True
    backward: bool = False
    step: int = 1


@dataclass(frozen=True, slots=True)
class Count:
    """`int32_t var = 0;`: rows of an inner node made so far."""

    var: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts that functions of the step go on with, all 0 at first: in C the members of one struct."""

    vars: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A constant array that a loop's bound is read from."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MakeRows:
    """Make rows of an inner node until there are so many, by a call of its function."""

    node: int
    until: str


@dataclass(frozen=True, slots=True)
class Function:
    """What makes rows of an inner node that several places ask for; the variable `until` says how many.

    It sees the step's shared `Counts`, and the variable `strip`.
    """

    node: int
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One group of the plan, with the comment that introduces it, one line a node.

    A function may call those before it.
    """

    group: int
    nodes: tuple[int, ...]
    comment: tuple[str, ...]
    body: tuple[Stmt, ...]
    functions: tuple[Function, ...] = ()


@dataclass(frozen=True, slots=True)
class Moves:
    """Moves of buffers before the group of a step of the plan; for a step behind all groups, after them."""

    step: int
    body: tuple[Start | Wait | Copy, ...]


MoveStmt = Start | Wait | Copy
Stmt = Call | InChunks | For | Count | Counts | Table | MakeRows | Step | Moves | MoveStmt | ByBlocks | Batch


@dataclass(frozen=True, slots=True)
class StagedBlocks:
    """A node's constants in the file of weights, and in the arena.

    Block k begins at byte `offset + k * bytes` of the file; `places` are where in memory `arena` it may come
    to. Outputs of block k begin `step` bytes above those of the block before, in memory `memory`.
    """

    offset: int
    bytes: int
    last: int
    count: int
    places: tuple[int, ...]
    arena: str
    memory: str
    step: int

    @property
    def resident(self) -> bool:
        return len(self.places) == 1


@dataclass(frozen=True, slots=True)
class FetchedConstants:
    """A node's constants: a block of `bytes` bytes from byte `source` of the weights on.

    It is copied to an arena before the node runs, which finds it there.
    """

    source: int
    target: Address
    bytes: int


@dataclass(frozen=True, slots=True)
class ProgramNode:
    """What the C file says about one node: `index` in the graph, and the label its constants carry.

    Where constants come in blocks, `kinds` says for each which kernel it is packed for: 0 is `use`, then come
    the `others` (the last block may have fewer channels; what form is exact may depend on the constants).
    Where output channels are made in chunks, `use` is the kernel of the first, and `others` are the others'.
    """

    index: int
    label: str
    op: str
    comment: str
    where: tuple[Where, ...]
    use: KernelUse
    blocks: StagedBlocks | None = None
    others: tuple[KernelUse, ...] = ()
    kinds: tuple[int, ...] = ()
    fetched: FetchedConstants | None = None
    in_ram: bool = False  # its constants are read where init copied them
    body: EntryCode | None = None  # of a loop: the code of a step
    works: int = 0  # bytes that its kernel needs: of sums where it takes in rows, else of scratch

    @property
    def uses(self) -> tuple[tuple[str, KernelUse], ...]:
        """The constant structs that the node needs, by label."""
        others = ((f"{self.label}_{kind}", use) for kind, use in enumerate(self.others, 1))
        return ((self.label, self.use), *others)


@dataclass(frozen=True, slots=True)
class EntryCode:
    """One entry: where its inputs and outputs are, its nodes (by their index in the graph), the statements.

    In C nodes are numbered through: its own from `first` on, those of its loops' bodies from `bodies` on."""

    name: str
    first: int
    ports: dict[str, View]  # by tensor
    nodes: tuple[ProgramNode, ...]
    body: tuple[Step | Moves, ...]
    bodies: int

    @property
    def every(self) -> tuple[ProgramNode, ...]:
        """Its nodes, each before those of its body."""
        return tuple(each for node in self.nodes for each in (node, *(node.body.every if node.body else ())))


@dataclass(frozen=True, slots=True)
class Program:
    """One package: bytes of arena by region, its entries, and how its states begin."""

    name: str
    regions: dict[Region, int]
    entries: tuple[EntryCode, ...]
    states: tuple[InitialState, ...] = ()
    saved: SavedParameters | None = None
    slow: int = 0  # bytes of memory that values are paged to
    pages: int = 0  # such values

    @property
    def nodes(self) -> tuple[ProgramNode, ...]:
        """The nodes of all entries, and of the bodies of their loops."""
        return tuple(node for entry in self.entries for node in entry.every)

    @property
    def staged(self) -> bool:
        """True if constants lie in slow memory and are read while the model runs."""
        return any(node.blocks for node in self.nodes)
