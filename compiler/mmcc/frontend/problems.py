"""What can be wrong with a model: the codes, and short ways to raise them."""

from __future__ import annotations

from mmcc.errors import CompileError, Exit

CODES = {
    "MM101": "the file cannot be read as an ONNX model",
    "MM102": "the graph is not well formed: names, order, cycles, inputs or outputs",
    "MM103": "a node does not follow its operator's schema: operands or attributes",
    "MM104": "the operands of a node do not fit together",
    "MM105": "a tensor is empty or too large",
    "MM106": "external data is missing, too short, or outside the model's folder",
    "MM107": "a quantization parameter is not usable",
    "MM108": "a constant's data is not what its header says",
    "MM109": "a symbolic dimension needs a value",
    "MM110": "a dimension was given that the model does not have",
    "MM111": "evaluating the model's constants takes more memory than allowed",
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
