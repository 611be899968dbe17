# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a model: the codes, and short ways to raise them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mmcc.errors import CompileError, Exit, Where, printable
from mmcc.frontend.training_steps import COMPILE_HINT as TRAIN
from mmcc.frontend.training_steps import writer_of

MAX_LISTED = 20

CODES = {
    "MM101": "the file cannot be read as an ONNX model",
    "MM102": "the graph is not well formed: names, order, cycles, inputs or outputs",
    "MM103": "a node does not follow its operator's schema: operands or attributes",
    "MM104": "the operands of a node do not fit together",
    "MM105": "a tensor is empty or too large",
    "MM106": "external data is missing, too short, outside the model's folder, or has another checksum",
    "MM107": "a quantization parameter is not usable",
    "MM108": "a constant's data is not what its header says",
    "MM109": "a symbolic dimension needs a value",
    "MM110": "a dimension was given that the model does not have",
    "MM111": "evaluating the model's constants takes more memory than allowed",
    "MM112": "a value was given to an input that the model does not have, or that cannot have it",
    "MM113": "an input and an output cannot be one value that is kept from run to run",
    "MM201": "an operator is not supported",
    "MM202": "a feature of an operator is not supported",
    "MM203": "an element type is not supported",
    "MM204": "the model's ONNX version is not supported",
}


def bad_model(code: str, message: str, hint: str = "") -> CompileError:
    """An error of the model itself; the importer adds the node it is at."""
    assert code in CODES
    return CompileError(code, message, exit=Exit.BAD_MODEL, hint=hint)


def unsupported(message: str, hint: str = "", code: str = "MM202") -> CompileError:
    """An error for what mmcc does not do; the importer collects them and reports all at once."""
    assert code in CODES
    return CompileError(code, message, exit=Exit.UNSUPPORTED, hint=hint)


def located(error: CompileError, *where: Where) -> CompileError:
    """A copy of the error that says where in the model it is."""
    return CompileError(error.code, error.message, exit=error.exit, at=where, hint=error.hint)


CUT_OFF = "ending the model before it (onnx.utils.extract_model): the rest is code of yours"


@dataclass(slots=True)
class Problems:
    """All that is wrong with a model: errors, and operators that are not supported."""

    found: list[CompileError] = field(default_factory=list[CompileError])
    unknown: dict[tuple[str, str], list[Where]] = field(default_factory=dict[tuple[str, str], list[Where]])

    def add(self, error: CompileError) -> None:
        """Add one to what is to be reported."""
        self.found.append(error)

    def report(self) -> None:
        """Raise one error for all that was found, if anything was."""
        if not self.unknown and len(self.found) < 2:
            if self.found:
                raise self.found[0]
            return
        lines: list[str] = []
        first = [places[0] for _, places in sorted(self.unknown.items())]
        for (domain, op), places in sorted(self.unknown.items()):
            writer = writer_of(domain, op)
            step = f", of a step of training as {writer} has it" if writer else ""
            known = printable(domain, 60) or "ai.onnx"
            lines.append(f"{printable(op, 60)} (domain {known}), {_times(len(places))}{step}")
        alike = Counter((error.at[0].op if error.at else "", error.message) for error in self.found)
        at = {(e.at[0].op if e.at else "", e.message): e.at for e in reversed(self.found)}
        for (op, message), count in alike.items():
            times = f", {_times(count)}" if count > 1 else ""
            lines.append((f"{printable(op, 60)}: " if op else "") + message + times)
            first += at[op, message][:1]
        raise CompileError(
            self._code(),
            self._listed(lines),
            exit=Exit.BAD_MODEL if self._bad() else Exit.UNSUPPORTED,
            at=tuple(dict.fromkeys(first))[:MAX_LISTED],
            hint="\n".join(self._hints()),
        )

    def _bad(self) -> list[CompileError]:
        return [error for error in self.found if error.exit is not Exit.UNSUPPORTED]

    def _code(self) -> str:
        """The code of the first error in the model itself, if there is one; else of what is not supported."""
        bad, codes = self._bad(), {error.code for error in self.found}
        if bad:
            return bad[0].code
        return "MM201" if self.unknown else codes.pop() if len(codes) == 1 else "MM202"

    def _listed(self, lines: list[str]) -> str:
        count = len(lines)
        if self._bad():
            if count == 1:
                return lines[0]
            what = f"{count} things are wrong with the model"
        else:
            what = f"{count} operators or features are not supported" if count > 1 else "not supported"
        if count == 1:
            return f"{what}: {lines[0]}"
        more = [f"and {count - MAX_LISTED} more"] if count > MAX_LISTED else []
        return f"{what}:\n" + "\n".join(lines[:MAX_LISTED] + more)

    def _hints(self) -> list[str]:
        trains = [bool(writer_of(domain, op)) for domain, op in self.unknown]
        known = [TRAIN] * any(trains) + [CUT_OFF] * (not all(trains))
        return list(dict.fromkeys([*known, *(error.hint for error in self.found if error.hint)]))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
