# SPDX-License-Identifier: Apache-2.0
"""What came of one random model, which is looked at in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from fuzz_programs import Trial


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong: its kind is what shrinking keeps."""

    kind: str
    words: str  # options of the command line
    text: str


@dataclass(slots=True)
class Outcome:
    """What came of one model."""

    findings: list[Finding] = field(default_factory=list[Finding])
    plans: int = 0
    boards: int = 0
    refused: str = ""  # the code, if the model cannot be compiled
    kind: str = ""
    seconds: float = 0.0

    def add(self, kind: str, trial: Trial | None, text: str) -> None:
        self.findings.append(Finding(kind, trial.words if trial else "", text))


def in_process(task: Callable[[], Outcome], seconds: int) -> Outcome:
    """`task()` in a child that is slow if it takes more seconds of CPU, its own children together.

    Its own process is ended only at four times as many: how long it takes is told.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            resource.setrlimit(resource.RLIMIT_CPU, (4 * seconds, 4 * seconds + 5))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            outcome = task()
            spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            outcome.seconds = sum(usage.ru_utime + usage.ru_stime for usage in spent)
            record = {
                "findings": [[f.kind, f.words, f.text] for f in outcome.findings],
                "rest": [outcome.plans, outcome.boards, outcome.refused, outcome.kind, outcome.seconds],
            }
            with os.fdopen(write, "w") as stream:
                json.dump(record, stream)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    if status == 0 and text:
        record = json.loads(text)
        outcome = Outcome([Finding(*f) for f in record["findings"]], *record["rest"])
        if outcome.seconds > seconds:
            outcome.add("slow", None, f"{outcome.seconds:.0f} s of CPU")
        return outcome
    slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
    return Outcome([Finding("slow" if slow else "crash", "", f"the process ended with {status}")])
