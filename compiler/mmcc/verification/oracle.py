# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as the oracle: graph optimizations off, one thread, any value inside the model on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.errors import CompileError, Exit, printable
from mmcc.frontend.expose import with_outputs
from mmcc.frontend.in_double import in_double, model_of
from mmcc.package.record import Package, sha256


class Oracle:
    """A model in ONNX Runtime. Values are named as in the ONNX file."""

    def __init__(
        self,
        model: Path,
        values: Sequence[str],
        bind: Mapping[str, Any] = MappingProxyType({}),
        steps: Sequence[tuple[str, ...]] = (),
    ) -> None:
        """`values` are what `run` returns, in order: outputs of the model or any value of its graph.

        Behind them it returns, stacked, those of `steps` that the model has (`expose_steps`), which are then
        in `self.steps`. Inputs in `bind` are constants; `run` does not take them.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise CompileError(
                "MM801",
                "onnxruntime is not installed; comparing with the model itself needs it",
                exit=Exit.TOOL_MISSING,
                hint="pip install onnxruntime, or give --expected outputs.npz",
            ) from error
        ort: Any = onnxruntime
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        made = with_outputs(model, values, bind, steps)
        self._source = made.model
        self._ort, self._options = ort, options
        self._session: Any = self._load(ort, made.model, options)
        self._found: Any = None if made.found is None else self._load(ort, made.found, options)
        self.steps = tuple(made.steps)
        self._values = [*values, *made.steps.values()]
        inputs = self._session.get_inputs()
        # a package is without these
        self._empty = {value.name: _nothing(value.type, value.shape) for value in inputs if 0 in value.shape}
        # float64 that mmcc computes as float32 is still float64 there
        self._inputs = {value.name: "float64" if value.type == "tensor(double)" else None for value in inputs}

    def in_double(
        self, name: str, known: Mapping[str, NDArray[Any]], loops: Sequence[str] = ()
    ) -> NDArray[Any] | None:
        """A value computed from `known` ones by kernels of float64; None where there are none for it.

        With `loops` it is a value of the innermost one's body.

        ONNX Runtime's float32 may be far from what the model says: a Fourier transform of 210 numbers is 6e-4
        beside it. A difference alone does not tell whose it is, and these kernels are no part of mmcc.
        """
        part = in_double(self._model, name, known, loops)
        if part is None:
            return None
        model, given = part
        try:
            return self._load(self._ort, model, self._options).run([name], given)[0]
        except Exception:  # its classes of errors are not public
            return None

    @cached_property
    def _model(self) -> Any:
        """The model once more, to take parts of."""
        return model_of(self._source)

    @staticmethod
    def _load(ort: Any, source: Any, options: Any) -> Any:
        try:
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes of errors are not public
            reason = printable(" ".join(str(error).split()), 400)
            raise CompileError(
                "MM806",
                f"ONNX Runtime {ort.__version__} cannot load the model: {reason}",
                exit=Exit.TOOL_MISSING,
                hint="another version of onnxruntime, or give --expected outputs.npz",
            ) from error

    def run(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The values for one sample; CompileError MM806 if the model does not take it, as an index may be."""
        inputs = self._empty | inputs
        given = {n: inputs[n].astype(to) if to else inputs[n] for n, to in self._inputs.items()}
        try:
            values = self._session.run(self._values, given)
        except Exception as error:  # its classes of errors are not public
            reason = printable(" ".join(str(error).split()), 400)
            raise CompileError(
                "MM806",
                f"ONNX Runtime cannot run the model on a sample: {reason}",
                exit=Exit.TOOL_MISSING,
                hint="--data inputs.npz, with inputs that the model takes",
            ) from error
        return values if self._found is None else self._with_rows_found(values, given)

    def _with_rows_found(
        self, values: list[NDArray[Any]], given: dict[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Values of as many rows as there may be, the first of them as the model itself makes them.

        The model with other rows may be wrong where the C is. Where the model itself fails, as a Gather of a
        row that was not found does, there is nothing else to compare with.
        """
        try:
            found = self._found.run(self._values, given)
        except Exception:  # its classes of errors are not public
            return values
        return [_beginning_with(a, b) for a, b in zip(values, found, strict=True)]


def _beginning_with(whole: NDArray[Any], first: NDArray[Any]) -> NDArray[Any]:
    """An array whose first rows are those of another; CompileError MM806 if it has no such rows."""
    fits = whole.ndim == first.ndim and all(n <= m for n, m in zip(first.shape, whole.shape, strict=True))
    if not fits:
        what = f"a value of shape {list(first.shape)}, which are no rows of {list(whole.shape)}"
        raise CompileError("MM806", f"ONNX Runtime gives {what}", exit=Exit.TOOL_MISSING)
    made = np.array(whole)
    made[tuple(map(slice, first.shape))] = first
    return made


def _nothing(kind: str, shape: Sequence[int | str]) -> NDArray[Any]:
    """An array without elements, of a type as ONNX Runtime names it; what numpy does not know is float32."""
    name = {"float": "float32", "double": "float64"}.get(kind[7:-1], kind[7:-1])
    known = name in np.sctypeDict
    return np.zeros(
        [extent if isinstance(extent, int) else 1 for extent in shape], name if known else "float32"
    )


def find_model(package: Package, given: Path | None) -> Path:
    """The ONNX file a package was made from; CompileError if it is gone or has changed."""
    path = given or Path(package.model)
    if not path.is_file():
        raise CompileError(
            "MM008", f"the model {path} is not there any more", exit=Exit.USAGE, hint="--model PATH"
        )
    if sha256(path) != package.sha256:
        message = f"{path} is not the file that this package was compiled from"
        raise CompileError("MM008", message, exit=Exit.USAGE, hint="compile it again, or give --model PATH")
    return path
