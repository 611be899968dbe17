# SPDX-License-Identifier: Apache-2.0
"""What is said of a model that gets nine tenths of the least RAM it needs, for each network of the goals."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from mmcc.driver.ask import plan_request
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.errors import Exit
from mmcc.ir.regions import SRAM
from mmcc.planner.api import best_plan
from mmcc.planner.explain import does_not_fit, peak_step
from mmcc.target import load_target
from shared_models import model_path, needs_shared

LEAST = {  # bytes of arena, at most
    "kws_dscnn_int8_qdq": 5_168,
    "ic_resnet8_int8_qdq": 12_352,
    "vww_mbv1_int8_qdq": 27_792,
    "ad_autoenc_int8_qdq": 768,
    "mcunet_vww_int8_qdq": 21_360,
    "gen_mobilenetv2_035_144_qdq_s8s8": 66_096,
    "gen_mobilenetv2_100_224_qdq_u8s8": 196_896,
    "gen_resnet50_224": 1_878_016,
    "gen_yolov2_first16_608_fold": 5_245_824,
    "gen_vgg16_224": 2_007_040,
    "gen_vgg19_224": 2_181_120,
}
NO_IMAGE = {"ad_autoenc_int8_qdq"}  # its least is an input and an output at once


@needs_shared
@pytest.mark.parametrize("name", LEAST)
def test_nine_tenths_of_the_least(name: str) -> None:
    """It names the least, the step and its largest buffer; something else to ask for is told, and all told
    figures hold."""
    options = CompileOptions(target="cortex-m4", least_ram=True)
    graph = load_graph(model_path(name), options)
    request = plan_request(options, graph, load_target("cortex-m4"), lambda *_: None)
    plan = best_plan(graph, request)
    least = plan.peak(SRAM)
    assert least <= LEAST[name]
    limit = least * 9 // 10
    error = does_not_fit(graph, plan, replace(request, limit=limit), best_plan)
    assert error.exit is (Exit.DOES_NOT_FIT if plan.bound > limit else Exit.NO_PLAN)
    assert f"does not fit in {limit:,} bytes" in error.message
    assert f"{least:,} bytes" in error.message
    step = peak_step(plan, SRAM)
    assert f"step {step} of {len(plan.groups)} needs it, node {plan.groups[step].nodes[0]} " in error.message
    alive = [b for b in plan.buffers if b.live.lo <= step < b.live.hi]
    assert f"{max(b.size for b in alive):,}  " in error.message
    lines = (error.hint or "").splitlines()
    assert lines[0].split() == ["--ram", str(least)]
    assert name in NO_IMAGE or len(lines) > 1
    for line in lines[1:]:
        needed = int(re.match(r"--ram (\d+) ", line)[1])
        assert needed < least
        assert ("fits" in line) == (needed <= limit)
        if "--io external " in f"{line} " and "--recompute" not in line:
            outside = replace(request, external_inputs=True, external_outputs=True)
            assert best_plan(graph, outside).peak(SRAM) == needed
