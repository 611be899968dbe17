# SPDX-License-Identifier: Apache-2.0
"""Every hint of every error is followed: what it says makes the error go away.

Hints are found in the source, so that a new one without a case fails here: each `hint` of what makes an error
in compiler/mmcc, by its expression, and the tables of hints by their entries.
"""

from __future__ import annotations

from pathlib import Path

import hint_cases_control_flow  # noqa: F401
import hint_cases_files  # noqa: F401
import hint_cases_front  # noqa: F401
import hint_cases_models  # noqa: F401
import hint_cases_serial  # noqa: F401
import hint_cases_targets  # noqa: F401
import hint_cases_tools  # noqa: F401
import hint_cases_training  # noqa: F401
import pytest
from hints import CASES, hints
from mmcc.frontend.not_onnx import FORMATS

TABLES = {"frontend/problems.py: '\\n'.join(self._hints())"}  # by their entries
# nothing can be done but telling us: the report says what to send
REPORTS = {
    "cli/main.py: 'report it with the model; -v shows where it happened'",
    "toolchain/host.py: 'report this with the model and options'",
    "toolchain/build.py: 'report this with the model and the options' if 'compile' in what else ''",
}
# followed by a test of their own
ELSEWHERE = {
    "planner/explain.py: '\\n'.join(_remedies(graph, request, plan, replan, besides))": (
        "test_cli_limits.py::test_every_remedy_that_is_told_works"
    ),
    "driver/piped.py: 'giving the model as a file, with its data beside it'": (
        "test_piped.py::test_external_data_needs_a_folder"
    ),
    "toolchain/firmware.py: 'add a [qemu] table, as in targets/cortex-m4.toml'": (
        "test_hints_of_boards.py::test_a_table_for_qemu"
    ),
    "toolchain/firmware.py: 'a target with more memory, or your own target file'": (
        "test_hints_of_boards.py::test_a_target_with_more_memory"
    ),
    "toolchain/qemu.py: '--limit 1 where there are many samples, or --on host'": (
        "test_hints_of_boards.py::test_a_run_that_takes_too_long"
    ),
    "selfcheck/run.py: f'send us {target}: a bug in mmcc. --no-self-check writes the package nevertheless'": (
        "test_self_check.py::test_verify_finds_one_step_in_one_node"
    ),
    "frontend/converters/constants.py: 'a Range of float32'": (
        "test_frontend_attributes.py::test_a_range_of_float32_is_what_a_hint_says"
    ),
    "verification/serial_line.py: "
    "'the port of your board, which is not open elsewhere; socket://HOST:PORT works, too'": (
        "hint_cases_serial.py::another_model_and_no_traces"
    ),
    "verification/board.py: "
    "f'a lower --baud, or serial/{name}_traced.c and {name}_records.c in the firmware'": (
        "hint_cases_serial.py::another_model_and_no_traces"
    ),
    "cli/bench.py: 'add --cycles'": "test_cycles.py::test_cycles_are_those_that_were_worked_out_before",
    "verification/cycles.py: f'compile with --target {board.core}'": (
        "test_cycles.py::test_cycles_are_those_that_were_worked_out_before"
    ),
    "boards.py: f'--board FILE.toml with a board of your own; cycles are modelled for {cores}'": (
        "test_cycles.py::test_a_core_without_a_model_is_told"
    ),
    "toolchain/cycles/model.py: f\"cycles are modelled for {', '.join(CORES)}\"": (
        "test_cycles.py::test_a_core_without_a_model_is_told"
    ),
    "boards.py: f\"{did_you_mean(key, known)}known: {', '.join(known)}\"": (
        "test_cycles.py::test_a_wrong_board_is_told"
    ),
    "boards.py: f\"{did_you_mean(path.stem, list_boards())}one of: {', '.join(list_boards())}\"": (
        "test_cycles.py::test_an_unknown_board_is_told"
    ),
    "driver/options.py: 'leave out --io external and --weights staged'": (
        "test_handoff.py::test_functions_get_no_memory_that_is_not_ours"
    ),
    "verification/linked.py: "
    '"--on host, which takes mmcc\'s own kernels instead; or sources = [...] in that file"': (
        "test_handoff.py::test_a_function_in_place_of_which_only_the_stack_is_known"
    ),
    "driver/handoff.py: 'nodes = [...] in the table, with those that can be'": (
        "test_handoff.py::test_advice_for_nodes_that_cannot_be_handed_off_works"
    ),
    "driver/handoff.py: 'a function, and a table, for each kind of node'": (
        "test_handoff.py::test_advice_for_nodes_that_cannot_be_handed_off_works"
    ),
    "driver/handoff_objects.py: 'compiling the model again with the file where it is now'": (
        "test_handoff.py::test_functions_run_in_firmware_and_a_wrong_one_is_seen"
    ),
    "driver/train.py: '--ram N, or --flash N'": (
        "test_auto.py::test_auto_trains_as_many_of_the_last_layers_as_fit"
    ),
    "driver/link.py: f'--ram N, which is of {target.memory[0].name}'": (
        "test_link.py::test_names_that_may_not_meet"
    ),
    "package/record.py: f\"{did_you_mean(name, numbers)}one of: {', '.join(numbers)}\"": (
        "test_link.py::test_all_models_are_verified_and_known_in_the_header"
    ),
    "verification/verify.py: f'add --entry {next(iter(models))}'": (
        "test_link.py::test_all_models_are_verified_and_known_in_the_header"
    ),
    "quantization/quantize.py: "
    "'--data with samples as the model takes them; --mean and --std scale images'": (
        "test_quantize.py::test_data_that_nothing_can_be_learned_from_is_refused"
    ),
    "driver/half_layers.py: "
    "f'-t {known}; without the option float16 is computed in float32, to more digits'": (
        "test_fp16.py::test_a_package_with_sums_in_float16_is_verified"
    ),
    "driver/half_layers.py: "
    "'leave it out; or convert the model to float16 before: its tensors are what decides'": (
        "test_fp16.py::test_what_has_no_arithmetic_or_no_layers_in_float16_is_refused"
    ),
    "cli/bench.py: 'add --on qemu'": "test_hints_of_boards.py::test_a_profile_is_made_in_qemu",
}

TESTS = Path(__file__).resolve().parents[1]


def test_every_hint_has_a_case():
    found = set(hints())
    for module, test in (value.split("::") for value in ELSEWHERE.values()):
        assert f"def {test}(" in next(TESTS.rglob(module)).read_text()
    known = {key for key in CASES if not key.startswith(("HINTS ", "FORMATS "))} | set(ELSEWHERE)
    assert found - known - TABLES - REPORTS == set(), "these hints are followed by no test"
    assert (known | REPORTS) - found == set(), "these hints are in the source no more"
    tables = {f"FORMATS {kind.name}" for kind in FORMATS} | {"HINTS "}
    assert {key for key in CASES if key.startswith(("HINTS ", "FORMATS "))} == tables


@pytest.mark.parametrize("key", list(CASES))
def test_a_hint_that_is_followed_helps(key, tmp_path, monkeypatch):
    CASES[key](tmp_path, monkeypatch)
