# SPDX-License-Identifier: Apache-2.0
"""CP-SAT as the planner uses it: builds reproduce."""

from __future__ import annotations

from ortools.sat.python import cp_model


def reproducible_solver(seconds: float, seed: int) -> cp_model.CpSolver:
    """A solver with one worker that gives up after `seconds` of its deterministic time: it counts work, so
    the same model has the same answer on any machine, however loaded."""
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = seconds
    return solver
