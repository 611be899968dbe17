# SPDX-License-Identifier: Apache-2.0
"""What a node's kernel promises the planner, beyond the loops of the node's op.

The planner never asks kernels itself: whoever plans asks here first. Code generation later asks the same
selectors, with the addresses that the plan chose, and gets what was promised (held by
`tests/kernels/test_staged_tables.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.errors import CompileError, Exit
from mmcc.ir.channels import channel_axes
from mmcc.ir.element_type import ELEMENT_TYPES, ElementType
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import LoopKind
from mmcc.ir.op import Op
from mmcc.ir.plan import PART, Blocks, Useful
from mmcc.ir.program import KernelUse
from mmcc.ir.traits import Moves
from mmcc.kernels import catalog  # noqa: F401  # pyright: ignore[reportUnusedImport]
from mmcc.kernels.accumulate import accumulator_bytes
from mmcc.kernels.arm_dsp import chunks, four, winograd
from mmcc.kernels.arm_dsp import conv as arm_dsp
from mmcc.kernels.arm_dsp import matmul as arm_dsp_matmul
from mmcc.kernels.arm_dsp.conv import WIDENED, widened_bytes
from mmcc.kernels.armv6m import conv as armv6m
from mmcc.kernels.bands import faster_apart
from mmcc.kernels.blocks import pack_block, part
from mmcc.kernels.loads import about_passes, constant_passes, input_loads
from mmcc.kernels.scratch import scratch_bytes
from mmcc.kernels.select import kernel_use
from mmcc.kernels.simd.conv_float import VARIANT as SIMD
from mmcc.kernels.tilings import planning_site, tilings, whole_size
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.elementwise import Cast
from mmcc.ops.half_layers import has_half_kernel, sums_in_halves
from mmcc.ops.indexing import TakeLines
from mmcc.ops.int8_to_float import ConvInt8ToFloat
from mmcc.ops.layers import HALVES, WithHalves
from mmcc.ops.matmul import MatMulInt8
from mmcc.ops.movement import Pad
from mmcc.ops.tiled_conv import TiledConvInt8
from mmcc.target import Target

TYPES = (
    *(ElementType.F32, ElementType.BOOL, ElementType.I8, ElementType.I16, ElementType.I32, ElementType.I64),
    *(ElementType.U8, ElementType.U16, ElementType.U32, ElementType.U64),
)
NARROW = tuple(dtype for dtype in ELEMENT_TYPES.values() if dtype.code is not None)
MOST_ROOM = 2**31 - 1  # bytes
LESS_STACK = (
    chunks.TEMPLATE,
    WIDENED,
    "conv_four",
)  # what others widen on the stack, these do in memory lent
SMALL_FRAMES = (arm_dsp.VARIANT, armv6m.VARIANT)  # with kernels that `Target.small_frames` changes
PIXELS = 8  # output pixels that an int8 convolution makes at once, at most


@dataclass(frozen=True, slots=True)
class KernelContract:
    """Promises that hold wherever the planner puts the node's tensors.

    `template` names the kernel of a node whose tensors are whole and dense. A node whose rows lie far apart
    may get another kernel, which keeps the same promises.

    `pixels` are made at a time, left to right, reading just their windows; 0 if rows are gone over again.
    `accumulator` is the bytes of sums with which the input is taken in row by row, 0 if these are the result;
    None if it must be whole.
    `useful` are bytes with which other kernels, which keep the same promises, would be faster; those of the
    fastest first.
    `scratch` is the bytes that it works in. Where rows are `ordered`, it holds what a row hands on from call
    to call; a node with several results runs in one.
    `tilings` are the ways to cut constants that lie in slow memory into blocks of output channels.
    `loads` says how often values of the input are loaded, over iterations of the node's loops.
    `constants` are the bytes of its constants, and `passes` how often it reads all of them in a run; 0 where
    that is not known. Where weights are staged, `passes` is about that, and `constants` 0. `parts` says that
    there are kernels for any output channels that begin at a multiple of PART, which say how many they make.
    `apart` says that it is faster where its output lies apart from what it reads.
    """

    template: str
    pixels: int
    accumulator: int | None
    scratch: int
    ordered: LoopKind | None
    tilings: tuple[Blocks, ...]
    loads: float = 1.0
    constants: int = 0
    passes: float = 0.0
    useful: tuple[Useful, ...] = ()
    parts: bool = False
    apart: bool = False

    def __str__(self) -> str:
        cuts = ", ".join(f"{b.count} x {b.channels} channels in {b.bytes} bytes" for b in self.tilings)
        parts = (
            self.template,
            f"{self.pixels} pixels at once" if self.pixels else "",
            f"accumulator of {self.accumulator} bytes" if self.accumulator is not None else "",
            f"{self.scratch} bytes to work in" if self.scratch else "",
            *(f"faster with {each.bytes} bytes to work in" for each in self.useful),
            f"rows {self.ordered.name.lower()} only" if self.ordered else "",
            f"constants in {cuts}" if cuts else "",
            "channels in parts" if self.parts else "",
            "faster apart from its input" if self.apart else "",
            f"{self.loads:.3g} loads of the input an iteration" if self.loads != 1 else "",
            f"{self.passes:.3g} passes over {self.constants} bytes of constants" if self.constants else "",
        )
        return "; ".join(part for part in parts if part)


def contract(
    graph: Graph,
    index: int,
    target: Target,
    block_limit: int = 0,
    *,
    fetch: bool = False,
    parts: bool = False,
) -> KernelContract:
    """What the kernel of node `index` promises on this target.

    With `block_limit`, weights are staged: tilings are found, in blocks of at most so many bytes. That packs
    the constants for each tiling, so it is not done where weights are read in place. With `fetch`, constants
    may be copied to a memory of the target. With `parts`, threads may make channels apart, if neither of the
    two is asked for: that packs constants, too.

    CompileError MM203 if an operand or a result is of a type that no kernel knows.
    """
    node = graph.nodes[index]
    _check_types(graph, node, target)
    use = kernel_use(node.op, planning_site(graph, index, target))
    passes = constant_passes(use, nest_of(graph, node)) if fetch else 0.0
    if block_limit:
        passes = about_passes(use, nest_of(graph, node))
    return KernelContract(
        use.template,
        _pixels_at_once(node),
        accumulator_bytes(graph, node),
        scratch_bytes(graph, node),
        None if node.at_once else nest_of(graph, node).row_order,
        tilings(graph, index, target, block_limit) if block_limit else (),
        input_loads(use, nest_of(graph, node)),
        whole_size(graph, index, target) if passes and fetch else 0,
        passes,
        () if block_limit or fetch else useful(graph, index, target),
        parts and not (block_limit or fetch) and _in_parts(graph, index, target, use),
        _faster_apart(graph, index, target, use),
    )


def _faster_apart(graph: Graph, index: int, target: Target, use: KernelUse) -> bool:
    node = graph.nodes[index]
    if isinstance(node.op, MatMulInt8) and node.handoff is None:
        return arm_dsp_matmul.faster_apart(node.op, planning_site(graph, index, target))
    return faster_apart(use, graph.tensors[node.outputs[0]].shape)


def _in_parts(graph: Graph, index: int, target: Target, whole: KernelUse) -> bool:
    """True if a node's kernels can make some of its channels, in the same way, and say how many."""
    node, site = graph.nodes[index], planning_site(graph, index, target)
    if node.handoff is not None or channel_axes(graph, node) is None:
        return False
    channels = site.output.geometry[2]
    if channels != site.output.shape[-1]:  # of more than three axes, the last ones together
        return False
    last = (channels - 1) // PART * PART
    some = {(0, min(PART, channels)), (last, channels)}
    uses = [(hi - lo, kernel_use(node.op, part(graph, index, site, lo, hi))) for lo, hi in some]
    return all((use.template, use.channels) == (whole.template, size) for size, use in uses)


def has_small_frames(target: Target) -> bool:
    """True if a target has kernels that `small_frames` changes."""
    return any(variant in target.kernels for variant in SMALL_FRAMES)


def useful(graph: Graph, index: int, target: Target) -> tuple[Useful, ...]:
    """Bytes to work in with which the node has faster kernels, those of the fastest first; or, where stack
    counts, kernels that take less of it."""
    node = graph.nodes[index]
    if node.handoff is not None or not isinstance(node.op, (ConvInt8, DenseInt8)):
        return ()
    if arm_dsp.VARIANT not in target.kernels:
        return ()
    use = kernel_use(node.op, planning_site(graph, index, target, lent=True))
    plain = four.work_bytes(use) or chunks.work_bytes(use)
    if not plain and target.small_frames:  # no faster in memory that is lent, but with less stack
        plain = widened_bytes(use)
    found = (Useful(plain, less_stack=use.template in LESS_STACK),) if plain else ()
    site = planning_site(graph, index, target, lent=True, room=MOST_ROOM)
    large = kernel_use(node.op, site)
    if large.template == winograd.TEMPLATE and winograd.saves(site) > 0:
        constants = pack_block(large).size - pack_block(use).size
        found = (Useful(winograd.work_bytes(site), constants, True, winograd.saves(site)), *found)
    return found


def contracts(
    graph: Graph, target: Target, block_limit: int = 0, *, fetch: bool = False, parts: bool = False
) -> tuple[KernelContract, ...]:
    """The contract of every node, in the order of the nodes."""
    nodes = range(len(graph.nodes))
    return tuple(contract(graph, index, target, block_limit, fetch=fetch, parts=parts) for index in nodes)


def _check_types(graph: Graph, node: Node, target: Target) -> None:
    if _sums_in_halves(graph, node, target):
        return
    for k, name in enumerate((*node.inputs, *node.outputs)):
        dtype = graph.tensors[name].dtype
        half = k == HALVES and isinstance(node.op, WithHalves) and graph.is_constant(name)
        known = dtype in TYPES or (dtype in NARROW and takes_narrow(node.op))
        if not known and not (half and dtype == ElementType.F16):
            raise CompileError(
                "MM203",
                f"{node.op}{_states(graph, node)} has an operand or result of type {dtype}, "
                "for which there are no kernels",
                exit=Exit.UNSUPPORTED,
                at=node.where,
            )


def _sums_in_halves(graph: Graph, node: Node, target: Target) -> bool:
    """True of a layer that is float16 altogether, and for which the target has kernels."""
    dtypes = {graph.tensors[name].dtype for name in (*node.inputs, *node.outputs)}
    if dtypes != {ElementType.F16} or SIMD not in target.kernels:
        return False
    if not sums_in_halves(node.op, ElementType.F16) or not all(map(graph.is_constant, node.inputs[1:])):
        return False
    return has_half_kernel(node.op, graph.tensors[node.inputs[1]].shape)


def takes_narrow(op: Op) -> bool:
    """Whether kernels of an op take floats narrower than 32 bits: conversions, and what only moves codes."""
    return isinstance(op, Cast | TakeLines) or (op.traits.moves is Moves.BY_PLACE and not isinstance(op, Pad))


def _states(graph: Graph, node: Node) -> str:
    """The states that a node reads or writes: a copy that only a state needs has no place in the model."""
    names = {*node.inputs, *node.outputs}
    found = [f'"{state.begin}"' for state in graph.states if names & {state.begin, state.end}]
    return f" of state {', '.join(found)}" if found else ""


def _pixels_at_once(node: Node) -> int:
    """Every variant of these kernels makes its pixels from left to right.

    A kernel for groups, or with its loop over blocks of channels outside that over pixels, cannot promise it:
    it goes over a row several times.
    """
    if isinstance(node.op, TiledConvInt8):
        return 1
    conv = isinstance(node.op, (ConvInt8, ConvInt8ToFloat)) and node.op.groups == 1 and not node.handoff
    return PIXELS if conv else 0
