# SPDX-License-Identifier: Apache-2.0
"""--threads: chunks are made in any order and at the same time, with the same bits; faults are convicted."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from doc_pages import DIGITS, DOCS, blocks
from fused_c import staging
from lowered_programs import HOST, check, groups
from mmcc.checker.chunks import check_chunks
from mmcc.checker.plan import check_plan
from mmcc.cli import main
from mmcc.codegen.lower import lower_entry
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.errors import CompileError
from mmcc.ir.graph import Graph
from mmcc.ir.module import RUN, Entry
from mmcc.ir.plan import Along, Chunks, Plan
from mmcc.ir.program import Constants, EntryCode, Following, InChunks, KernelUse, Start, Step, Wait
from mmcc.ir.regions import SRAM
from mmcc.package.host import run_on_host
from mmcc.planner import chunks
from mmcc.planner.api import best_plan
from mmcc.planner.chunks import in_chunks
from mmcc.planner.cost import node_cost
from mmcc.planner.request import PlanRequest
from onnx import TensorProto, helper, save
from onnx.numpy_helper import from_array
from planned_alone import planned_alone
from planner_graphs import Build, kws
from tiny_graphs import tiny_graph
from toolchains import ready

FIRMWARE = Path(__file__).resolve().parents[1] / "firmware"
SANITIZED = ("-std=gnu11", "-fsanitize=thread", "-O1", "-march=native", "-pthread")
THREADS = PlanRequest(fuse=False, threads=3)


@pytest.fixture(autouse=True)
def _all_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of tests are small: cut them all the same."""
    monkeypatch.setattr(chunks, "LEAST_WORK", 1)


def planned(graph: Graph, request: PlanRequest = THREADS) -> Plan:
    return in_chunks(graph, best_plan(graph, request), request)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network, every kernel of several rows in chunks."""
    folder = tmp_path_factory.mktemp("threads") / "digits_c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "LEAST_WORK", 1)
        options = CompileOptions(name="digits", threads=3, self_check=False)
        made = compile_model(DIGITS / "digits_int8.onnx", folder, options)
    assert len(made.plan.chunks) >= 8
    ram = made.report["ram"]
    assert ram["workers"] == 2 * ram["worker_stack"] > 0
    assert ram["total"] == sum(ram[part] for part in ("arena", "context", "static", "stack", "workers"))
    assert f"DIGITS_WORKER_STACK_SIZE {ram['worker_stack']}u" in (folder / "digits.h").read_text()
    sources = sorted(path.name for path in folder.glob("*.c"))
    subprocess.run([_gcc(), *SANITIZED, "-c", *sources], cwd=folder, check=True)
    return folder


def test_mmcc_bench_deals_chunks_to_threads(package: Path) -> None:
    """What it says of three threads is possible."""
    done = CliRunner().invoke(main, ["bench", str(package), "--threads", "3", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["threads"], found["runs"]) == (3, 15)
    assert found["milliseconds"] > 0
    assert 0 < found["cut"] <= 1
    assert found["dealt"] > 0  # times of different runs: how large it is depends on what else runs here
    assert found["wall"] > 0


def _gcc() -> str:
    return shutil.which("gcc") or pytest.skip("gcc is not installed")


@pytest.mark.parametrize("what", ["POSIX", "DISPATCH", "FREERTOS"])
def test_what_the_page_shows_gives_the_same_bits_without_a_race(
    package: Path, tmp_path: Path, what: str
) -> None:
    """Built with the thread sanitizer; the other systems' functions are stood in for by POSIX threads."""
    shown = [text for language, text in blocks(DOCS / "threads.md") if language == "c"]
    (code,) = (text for text in shown if _marks(what) in text)
    (tmp_path / "shown.h").write_text(code)
    program = tmp_path / "program"
    files = [FIRMWARE / "threads.c", *sorted(package.glob("*.o"))]
    include = [f"-I{package}", f"-I{tmp_path}", f"-I{FIRMWARE / 'threads'}"]
    subprocess.run([_gcc(), *SANITIZED, f"-D{what}", *include, *files, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _marks(what: str) -> str:
    return {"POSIX": "<pthread.h>", "DISPATCH": "dispatch.h", "FREERTOS": "FreeRTOS.h"}[what]


@pytest.mark.parametrize("seed", range(24))
def test_chunks_of_small_graphs_are_sound_and_are_what_is_lowered(seed: int) -> None:
    graph = tiny_graph(seed)
    for request in (THREADS, replace(THREADS, fuse=True)):
        plan = planned(graph, request)
        assert check_plan(graph, plan) == []
        assert check(graph, plan, lower_entry(Entry(RUN, graph), plan, HOST)) == []


@pytest.mark.parametrize(("chunks_worth", "cut"), [(1, 0), (2, 2), (3, 3), (5, 3), (8, 6), (40, 12)])
def test_every_thread_gets_as_many_chunks(
    chunks_worth: int, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of work that is worth five chunks three threads get one each: two more would be waited for."""
    b = Build("even")
    graph = b.graph(b.conv(b.input(60, 8, 4), 8, 3))
    work = node_cost(graph, graph.nodes[0], THREADS.cost).total(60, 1, 1, 1.0)
    monkeypatch.setattr(chunks, "LEAST_WORK", int(work / (chunks_worth + 0.5)))
    plan = planned(graph)
    assert sum(len(found.spans) for found in plan.chunks.values()) == cut


def test_columns_are_cut_where_rows_are_few() -> None:
    b = Build("long")
    graph = b.graph(b.conv(b.conv(b.input(1, 40, 4), 8, (1, 3)), 4, (1, 3)))
    plan = planned(graph)
    assert [found.along for found in plan.chunks.values()] == [Along.COLUMNS] * 2
    assert check_plan(graph, plan) == []
    assert check(graph, plan, lower_entry(Entry(RUN, graph), plan, HOST)) == []


def in_parts(channels: int = 40) -> tuple[Graph, Plan, EntryCode]:
    """A dense layer of which three threads make channels: two get a block, the third what is left."""
    b = Build("parts")
    graph = b.graph(b.dense(b.input(64), channels))
    plan = planned(graph, replace(THREADS, parts=frozenset(range(len(graph.nodes)))))
    return graph, plan, lower_entry(Entry(RUN, graph), plan, HOST)


def test_channels_are_cut_where_there_is_nothing_else() -> None:
    graph, plan, code = in_parts()
    (found,) = plan.chunks.values()
    assert (found.along, found.cuts) == (Along.CHANNELS, (0, 16, 32, 40))
    assert check_plan(graph, plan) == []
    assert check(graph, plan, code) == []


def test_faults_of_channels_in_chunks_are_convicted() -> None:
    graph, plan, code = in_parts()
    (index,) = plan.chunks
    met = replace(plan, chunks={index: Chunks((0, 24, 16, 40), Along.CHANNELS)})
    assert any("are not all of its 40 channels" in text for text in check_plan(graph, met))
    for change, told in (
        (lambda n: replace(n, others=n.others[::-1]), "finds its output"),
        (lambda n: replace(n, others=n.others[:1]), "2 kernels for 3 chunks"),
        (lambda n: replace(n, others=(*n.others[:1], _wider(n.others[1]))), "makes 48 channels"),
    ):
        wrong = replace(code, nodes=tuple(change(n) if n.index == index else n for n in code.nodes))
        assert any(told in text for text in check(graph, plan, wrong)), told
    whole = _changed(code, lambda s: replace(s, by_channels=False))
    assert any("is made as" in text for text in check(graph, plan, whole))


def _wider(use: KernelUse) -> KernelUse:
    """A kernel that goes on behind its channels."""
    fields = tuple(
        (name, value + 40 if name in ("outputs", "filters") and isinstance(value, int) else value)
        for name, value in use.fields
    )
    return replace(use, fields=fields)


def test_channels_in_chunks_give_the_same_bits(tmp_path: Path) -> None:
    """A float convolution with 7 rows and a dense layer, whose channels fill no block at the end."""
    rng = np.random.default_rng(3)
    shapes = {"w": (63, 3, 3, 3), "v": (63 * 49, 35), "b": (35,)}
    constants = [from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "b"], ["y"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 7, 7]), ("y", [1, 35]))
    ]
    graph = helper.make_graph(nodes, "parts", ports[:1], ports[1:], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "parts.onnx")
    x, found = rng.standard_normal((1, 3, 7, 7)).astype(np.float32), []
    for threads in (1, 2):
        folder = tmp_path / f"c{threads}"
        options = CompileOptions(name="parts", threads=threads, self_check=False)
        chunks_of = compile_model(tmp_path / "parts.onnx", folder, options).plan.chunks
        found.append((run_on_host(folder, [x])[0], [c.along for c in chunks_of.values()]))
    (alone, none), (parts, cut) = found
    assert (none, cut) == ([], [Along.CHANNELS] * 2)
    assert alone.tobytes() == parts.tobytes()


def test_the_self_check_looks_when_all_channels_are_made(tmp_path: Path) -> None:
    """Integers that a first chunk leaves open are not a value that is made again."""
    model = DIGITS / "digits_int8.onnx"
    plan = compile_model(model, tmp_path / "c", CompileOptions(threads=3)).plan
    assert Along.CHANNELS in {chunks.along for chunks in plan.chunks.values()}


def test_a_limit_without_room_for_chunks_is_kept() -> None:
    graph = kws()
    least, wide = planned_alone(graph), planned(graph)
    assert wide.peak(SRAM) > least.peak(SRAM)
    assert len(wide.chunks) > len(planned(graph, replace(THREADS, fuse=True)).chunks)
    limited = planned(graph, replace(THREADS, fuse=True, limit=least.peak(SRAM)))
    assert limited.peak(SRAM) <= least.peak(SRAM)
    assert check_plan(graph, limited) == []


def test_chunks_that_meet_are_convicted() -> None:
    """Every kernel of a plan for one thread in chunks: where rows overlap, one reads what another wrote."""
    graph = kws()
    plan = planned_alone(graph)
    convicted = 0
    for (index,) in (group.nodes for group in plan.groups):
        rows = graph.tensors[graph.nodes[index].output].shape[0]
        meets = replace(plan, chunks={index: Chunks((0, rows // 2, rows))}) if rows > 1 else plan
        free = in_chunks(graph, replace(plan, chunks={}), THREADS).chunks
        found = check_chunks(graph, meets)
        assert not (found and index in free), found
        convicted += any("may have written by then" in text for text in found)
    assert convicted >= 4


@pytest.mark.parametrize(
    ("cuts", "told"),
    [((0, 5, 8), "are not all"), ((0, 5, 5, 20), "are not all"), ((3, 20), "are not all")],
)
def test_cuts_that_leave_rows_out_are_convicted(cuts: tuple[int, ...], told: str) -> None:
    b = Build("one")
    graph = b.graph(b.conv(b.input(20, 8, 4), 8, 3))
    plan = planned(graph)
    assert any(told in text for text in check_plan(graph, replace(plan, chunks={0: Chunks(cuts)})))


def test_chunks_of_groups_and_of_rows_in_an_order_are_convicted() -> None:
    graph, fused, _ = groups()
    inside = next(group.nodes[0] for group in fused.groups if len(group.nodes) > 1)
    rows = graph.tensors[graph.nodes[inside].output].shape[0]
    told = check_plan(graph, replace(fused, chunks={inside: Chunks((0, 1, rows))}))
    assert any("not made by one call" in text for text in told)
    plan = planned(graph)
    (first, *_) = plan.chunks
    worked = replace(plan, scratch={first: plan.buffers[0].name})
    assert any("same bytes" in text for text in check_chunks(graph, worked))


def test_a_program_with_other_chunks_than_the_plan_is_convicted() -> None:
    graph = kws()
    plan = planned(graph)
    code = lower_entry(Entry(RUN, graph), plan, HOST)
    for change in (_other_rows, _one_less):
        assert any("is made " in text for text in check(graph, plan, change(code)))
    (first, *_) = plan.chunks
    fewer = replace(plan, chunks={k: v for k, v in plan.chunks.items() if k != first})
    assert any("in chunks, but not in the plan" in text for text in check(graph, fewer, code))


def test_chunks_may_run_while_constants_of_the_next_step_are_on_their_way() -> None:
    b = Build("staged")
    x = b.sum(b.input(16, 16, 16), b.input(16, 16, 16))
    graph = b.graph(b.conv(x, 32, 3))
    plan = planned(graph, replace(THREADS, staging=staging(graph, HOST, 1 << 20), limit=1 << 20))
    assert list(plan.chunks) == [0]
    code = lower_entry(Entry(RUN, graph), plan, HOST)
    (first, *others) = code.body
    assert isinstance(first, Step)
    (start, chunks) = first.body
    assert start == Start(Constants(1))
    assert check(graph, plan, code) == []
    wrong = replace(first, body=(Wait(Constants(1), Following(None)), chunks))
    told = check(graph, plan, replace(code, body=(wrong, *others)))
    assert any("waits for constants of node 1" in text for text in told)


def _other_rows(code: EntryCode) -> EntryCode:
    return _changed(code, lambda s: replace(s, call=replace(s.call, end=f"{s.call.end} + 1")))


def _one_less(code: EntryCode) -> EntryCode:
    return _changed(code, lambda s: replace(s, count=s.count - 1))


def _changed(code: EntryCode, change: Callable[[InChunks], InChunks]) -> EntryCode:
    """The code with its first chunks changed."""
    body = list(code.body)
    at = next(k for k, step in enumerate(body) if isinstance(step, Step) and _chunks_in(step))
    step = body[at]
    assert isinstance(step, Step)
    body[at] = replace(step, body=tuple(change(s) if isinstance(s, InChunks) else s for s in step.body))
    return replace(code, body=tuple(body))


def _chunks_in(step: Step) -> bool:
    return any(isinstance(statement, InChunks) for statement in step.body)


def test_a_number_of_threads_below_0_is_refused() -> None:
    with pytest.raises(CompileError, match="threads=-1 is below 0"):
        CompileOptions(threads=-1)


def test_kernels_in_chunks_are_lent_nothing(tmp_path: Path) -> None:
    """On cores where kernels of one thread would work in what the limit leaves."""
    ready("cortex-m4")
    options = CompileOptions(target="cortex-m4", name="d", ram=32768, threads=2, self_check=False)
    plan = compile_model(DIGITS / "digits_int8.onnx", tmp_path / "c", options).plan
    assert len(plan.chunks) >= 8
    assert plan.chunks.keys().isdisjoint(plan.scratch or {})
