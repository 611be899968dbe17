# SPDX-License-Identifier: Apache-2.0
"""The cycle model: instructions by the manuals, the way through a program, whole networks on boards."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hint_runs import mmcc
from mmcc.boards import BoardModel, board_of, list_boards, load_board
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.package.record import load_package
from mmcc.target import load_target
from mmcc.toolchain.counting import Block, CacheReads, Executed, Reads
from mmcc.toolchain.cycles.decode import Instruction, Kind, decode
from mmcc.toolchain.cycles.model import CORES, cycles
from mmcc.toolchain.stack.listing import Listing
from mmcc.toolchain.stack.walk import read_listing
from mmcc.verification.compare import run_qemu
from mmcc.verification.cycles import bench_cycles
from mmcc.verification.samples import made_up
from shared_models import MODELS, needs_shared
from toolchains import ready

WIDE = ("ldr.w", "smlad", "ldrd", "smull", "sdiv", "ldmia.w", "vmla.f32", "sxtb16", "smlal", "str.w")


def code(text: str) -> list[Instruction]:
    """Lines of assembler as a disassembly has them, from address 0x100 on."""
    lines, at = ["00000100 <f>:"], 0x100
    for line in text.strip().splitlines():
        mnemonic, _, operands = line.strip().partition(" ")
        lines.append(f"     {at:x}:\t{mnemonic}\t{operands}")
        at += 4 if mnemonic in WIDE else 2
    listing = Listing.parse("\n".join([*lines, f"     {at:x}:\tnop"]))
    found = [decode(line, address) for address, line in sorted(listing.lines.items())]
    return found[:-1]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("core", "text", "expected"),
    [
        # the Cortex-M4 manual, "load/store timings": its own examples
        ("cortex-m4", "ldr r0, [r1, #0]\nldr r1, [r2, #0]", 3),
        ("cortex-m4", "ldr r0, [r1, r2]\nstr r0, [r3, #20]", 3),
        ("cortex-m4", "ldr r0, [r1, r2]\nstr r1, [r3, r2]", 3),
        ("cortex-m4", "ldr r0, [r1, r5]\nldr r1, [r2, #0]\nldr r2, [r3, #4]", 4),
        ("cortex-m4", "ldr r0, [r1, #0]\nldr r1, [r0, #0]", 4),
        ("cortex-m4", "adds r1, r1, #4\nldr r0, [r1, #0]", 4),
        ("cortex-m4", "ldrd r0, r1, [r2]", 3),
        ("cortex-m4", "ldmia.w r2!, {r0, r1, r3, r4}", 5),
        ("cortex-m4", "push {r4-r7, lr}", 6),
        ("cortex-m4", "smlad r0, r1, r2, r0\nsmull r0, r1, r2, r3\nadd r0, r1", 3),
        ("cortex-m4", "bne 100 <f>", 1),
        ("cortex-m3", "mla r0, r1, r2, r3", 2),
        # the Cortex-M0+ manual's table
        ("cortex-m0plus", "ldr r0, [r1, #0]\nldr r1, [r2, #0]", 4),
        ("cortex-m0plus", "str r0, [r1, #0]\nmuls r0, r1", 3),
        ("cortex-m0plus", "stmia r1!, {r2, r3}", 3),
        ("cortex-m0plus", "pop {r4, r5, pc}", 6),
        ("cortex-m0plus", "bl 100 <f>", 3),
        ("cortex-m33", "ldr r0, [r1, #0]\nadds r2, r2, #1\nadds r0, r0, #1", 3),
        ("cortex-m33", "ldr r0, [r1, #0]\nadds r0, r0, #1", 3),
        # pairs of LLVM's model of the Cortex-M7
        ("cortex-m7", "ldr r0, [r1, #0]\nldr r2, [r3, #0]", 1),
        ("cortex-m7", "adds r0, r0, #1\nadds r1, r1, #1", 1),
        ("cortex-m7", "adds r0, r0, #1\nadds r1, r0, #1", 2),
        ("cortex-m7", "smlad r0, r1, r2, r0\nsmlad r3, r1, r2, r3", 2),
        ("cortex-m7", "smlad r0, r1, r2, r0\nadds r3, r0, #1", 3),
        ("cortex-m7", "ldrd r0, r1, [r2]\nadds r4, r4, #1", 2),
        ("cortex-m7", "adds r1, r1, #4\nldr r0, [r1, #0]", 3),
    ],
)
def test_cycles_of_instructions(core: str, text: str, expected: int) -> None:
    assert CORES[core].block(code(text)) == expected


@pytest.mark.quick
@pytest.mark.parametrize(
    ("text", "kind", "reads", "writes", "late"),
    [
        ("smlad r0, r1, r2, r3", Kind.MULTIPLY, "r1 r2 r3", "r0", "r3"),
        ("smlal r0, r1, r2, r3", Kind.LONG_MULTIPLY, "r0 r1 r2 r3", "r0 r1", "r0 r1"),
        ("add r0, r1", Kind.DATA, "r0 r1", "r0", ""),
        ("mov r0, r10", Kind.DATA, "sl", "r0", ""),
        ("add.w r0, r1, r2, lsl #2", Kind.SHIFTED, "r1 r2", "r0", ""),
        ("cmp r0, r1", Kind.DATA, "r0 r1", "", ""),
        ("ldr.w r0, [r1], #4", Kind.LOAD, "r1", "r0 r1", ""),
        ("ldrsb.w r0, [r1, r2]", Kind.LOAD_PART, "r1 r2", "r0", ""),
        ("str r0, [r1, #4]", Kind.STORE, "r0 r1", "", "r0"),
        ("push {r4, lr}", Kind.STORES, "r4 lr sp", "sp", "r4 lr"),
        ("ldmia r1!, {r2-r4}", Kind.LOADS, "r1", "r1 r2 r3 r4", ""),
        ("pop {r4, pc}", Kind.TABLE, "r4 pc", "", ""),
        ("vmla.f32 s0, s1, s2", Kind.FLOAT_MAC, "s0 s1 s2", "s0", "s0"),
        ("sxtb16 r0, r1, ror #8", Kind.PARALLEL, "r1", "r0", ""),
        ("bne.n 100 <f>", Kind.BRANCH, "", "", ""),
        ("bx lr", Kind.JUMP, "lr", "", ""),
    ],
)
def test_what_instructions_read_and_write(text: str, kind: Kind, reads: str, writes: str, late: str) -> None:
    (one,) = code(text)
    assert one.kind is kind
    if kind is not Kind.TABLE:
        assert (one.reads, one.writes) == (frozenset(reads.split()), frozenset(writes.split()))
        assert one.late == frozenset(late.split())


@pytest.mark.quick
def test_a_loop_on_two_pipelines_takes_what_a_round_takes() -> None:
    """The sum of one round is needed by the next: products wait for it, but those of another sum do not."""
    one = code("smlad r0, r1, r2, r0\nsmlad r0, r3, r4, r0\nbne 100 <f>")
    two = code("smlad r0, r1, r2, r0\nsmlad r5, r3, r4, r5\nbne 100 <f>")
    assert CORES["cortex-m7"].block(one) == CORES["cortex-m7"].block(two) == 2


@pytest.mark.quick
def test_boards_are_complete() -> None:
    for board in map(load_board, list_boards()):
        assert board.core in CORES
        assert board.source
        assert board.error
        assert board.published
        assert {"flash", "sram"} <= set(board.memory)
        assert board.runs(load_target(board.core))
        assert board_of(load_target(board.core)).core == board.core
        chip = load_target(board.chip)
        assert board.runs(chip)
        cache = board.data if board.data.sets else board.code
        assert chip.weights_cost == pytest.approx(cache.miss / cache.line, abs=0.005), "as is modelled"


@pytest.mark.quick
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("ways = 32", "ways = 0"), "sets * ways"),
        (("line = 32", "line = 24"), "power of two"),
        (("clock_mhz = 120", "clock_mhz = 0"), "clock_mhz"),
        (("clock_mhz = 120", 'clock_mhz = "fast"'), "must be of type float"),
        (("miss = 16", "misses = 16"), 'unknown key "misses"'),
        (("miss = 16\n", ""), '"miss" is missing'),
        (("[code]", "[["), "line"),
    ],
)
def test_a_wrong_board_is_told(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "boards/nucleo-l4r5zi.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace(*change, 1))
    with pytest.raises(CompileError, match=r"board mine\.toml") as error:
        load_board(str(tmp_path / "mine.toml"))
    assert said in str(error.value)


@pytest.mark.quick
def test_an_unknown_board_is_told() -> None:
    with pytest.raises(CompileError, match='no board "nucleo-l4r5"') as error:
        load_board("nucleo-l4r5")
    assert "nucleo-l4r5zi" in error.value.hint
    assert load_board("nucleo-l4r5zi").clock_mhz == 120
    with pytest.raises(CompileError, match="there is no file"):
        load_board("./mine.toml")


# ---- whole networks


def built(model: str, board: BoardModel, folder: Path) -> Path:
    ready(board.core)
    options = CompileOptions(target=board.core, self_check=False, name="net")
    compile_model(MODELS / model / "model.onnx", folder, options)
    return folder


def run(folder: Path, board: BoardModel) -> tuple[Executed, int]:
    package = load_package(folder)
    _, found = run_qemu(folder, package, made_up(package.inputs, 1), board=board)
    assert found.executed is not None
    return found.executed, found.instructions[0]


@pytest.fixture(scope="module")
def keywords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    board = load_board("nucleo-l4r5zi")
    return built("kws_dscnn_int8_qdq", board, tmp_path_factory.mktemp("kws") / "m4")


@needs_shared
def test_the_way_through_a_program_is_whole(keywords: Path) -> None:
    """Every block that ends with a jump was left, no block without one was, and instructions add up."""
    board = load_board("nucleo-l4r5zi")
    executed, instructions = run(keywords, board)
    listing = read_listing(executed.elf, load_target("cortex-m4"))
    addresses = sorted(listing.lines)
    place = {address: k for k, address in enumerate(addresses)}
    kinds = {"left": 0, "on": 0, "either": 0}
    for block in executed.blocks:
        last = decode(listing.lines[at := addresses[place[block.address] + block.instructions - 1]], at)
        jumps = last.kind in (Kind.CALL, Kind.JUMP, Kind.TABLE) or last.mnemonic == "b"
        if jumps and block.count > 1:
            assert block.taken == block.count, last
            kinds["left"] += 1
        elif last.kind is not Kind.BRANCH and not jumps and last.mnemonic not in ("bxeq", "popne"):
            assert block.taken <= 1, last  # the one that the profile ends in
            kinds["on"] += 1
        else:
            kinds["either"] += 1
            assert block.taken <= block.count
    assert min(kinds["left"], kinds["either"]) > 20
    assert sum(block.instructions * block.count for block in executed.blocks) - instructions in range(60)


@needs_shared
def test_cycles_are_those_that_were_worked_out_before(keywords: Path) -> None:
    """KWS on the M4 without flash waits: 5.5 M by published timings of the core, by another's script."""
    board = load_board("nucleo-l4r5zi")
    found = bench_cycles(keywords, load_package(keywords), board)
    assert found["core"] == pytest.approx(5.5e6, rel=0.03)
    assert 0 < found["code_waits"] < found["data_waits"] < found["core"]
    assert found["milliseconds"] == pytest.approx(found["cycles"] / 120e3)
    printed = mmcc("bench", keywords, "--cycles", "--board", "nucleo-l4r5zi")
    assert f"{found['cycles']:,} cycles at 120 MHz" in printed
    assert board.error in printed
    as_json = json.loads(mmcc("bench", keywords, "--cycles", "--json"))
    assert as_json["cycles"] == found["cycles"]
    nodes = as_json["per_node"]
    assert [row["op"] for row in nodes[-2:]] == ["DenseInt8", "SoftmaxInt8"]
    for unit in ("core", "cycles"):  # each node's share; what is between them is little
        assert sum(row[unit] for row in nodes) == pytest.approx(found[unit], rel=0.005)
    assert f"{nodes[0]['cycles']:,}" in printed
    mmcc("report", keywords, "--board", "nucleo-l4r5zi")
    page = (keywords / "report.html").read_text()
    assert f"{found['milliseconds']:.3g} ms" in page
    assert f"{found['cycles']:,} cycles at 120 MHz, modelled" in page
    assert f"a model of {board.description}: " in page
    assert "add --cycles" in mmcc("bench", keywords, "--board", "nucleo-l4r5zi", exit=2)
    other = mmcc("bench", keywords, "--cycles", "--board", "nucleo-h7a3zi", exit=2)
    assert "compile with --target cortex-m7" in other


@needs_shared
def test_larger_caches_and_faster_flash_wait_less(keywords: Path) -> None:
    board = load_board("nucleo-l4r5zi")
    large = replace(board, data=replace(board.data, sets=64))
    small, more = (run(keywords, each)[0].reads for each in (board, large))
    assert more.data.accesses == small.data.accesses
    assert more.data.misses < small.data.misses / 4
    assert more.code == small.code
    shared = replace(board, data=replace(board.data, sets=0))
    both = run(keywords, shared)[0].reads
    assert both.code.misses > small.code.misses, "data throws code out"


@needs_shared
@pytest.mark.parametrize(
    ("network", "model"),
    [
        ("kws", "kws_dscnn_int8_qdq"),
        ("resnet8", "ic_resnet8_int8_qdq"),
        ("vww", "vww_mbv1_int8_qdq"),
        ("ad", "ad_autoenc_int8_qdq"),
    ],
)
def test_boards_relate_as_published(network: str, model: str, tmp_path: Path) -> None:
    """Cycles of ST Edge AI on three cores and mmcc on the model of them: one factor a network, within 10 %.

    Of the cores alone: what flash adds depends on how often each software reads its weights.
    """
    logs = []
    for name in ("nucleo-l4r5zi", "nucleo-u575zi", "nucleo-h7a3zi"):
        board = load_board(name)
        folder = built(model, board, tmp_path / name)
        ours = bench_cycles(folder, load_package(folder), board)["core"]
        theirs = next(getattr(row, network) for row in board.published if row.software.startswith("ST "))
        logs.append(math.log(ours / (theirs * 1e6)))
    assert max(abs(each - sum(logs) / 3) for each in logs) < math.log(1.1)


@needs_shared
def test_a_core_without_a_model_is_told(keywords: Path) -> None:
    board = replace(load_board("nucleo-l4r5zi"), core="cortex-m55")
    nothing = Executed(keywords, (Block(0, 1, 1, 0),), Reads(CacheReads(0, 0, 0), CacheReads(0, 0, 0)))
    with pytest.raises(CompileError, match="no cycle model of cortex-m55") as error:
        cycles(nothing, load_target("cortex-m55"), board)
    assert "cortex-m33" in error.value.hint
    with pytest.raises(CompileError, match="no board has the core") as error:
        board_of(load_target("cortex-m55"))
    assert "cortex-m0plus" in error.value.hint
