# SPDX-License-Identifier: Apache-2.0
"""Does a node follow its operator's schema, in the version of the operator set that the model uses?"""

from __future__ import annotations

import onnx
from onnx import AttributeProto, NodeProto

from mmcc.errors import printable
from mmcc.frontend.problems import bad_model
from mmcc.frontend.tensorflow_nodes import FORMS as LEFT_OVER

Schema = onnx.defs.OpSchema


def domain_of(node: NodeProto) -> str:
    """The domain of a node's operator; ONNX's own has two names."""
    return "" if node.domain == "ai.onnx" else node.domain


def checked_node(node: NodeProto, version: int) -> tuple[Schema | None, dict[str, AttributeProto]]:
    """A node's schema and attributes; an error where the node does not follow that schema."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if len(attributes) < len(node.attribute):
        raise bad_model("MM103", "an attribute is given twice")
    if any(attribute.ref_attr_name for attribute in node.attribute):
        raise bad_model("MM103", "an attribute refers to one of a function, but the node is in none")
    domain = domain_of(node)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        if domain or node.op_type in LEFT_OVER:  # operators of others have no schema here
            return None, attributes
        raise bad_model("MM103", f"operator set {version} has no {node.op_type}") from None
    if not schema.min_input <= len(node.input) <= schema.max_input:
        raise bad_model("MM103", f"{len(node.input)} operands, not {schema.min_input} to {schema.max_input}")
    if not schema.min_output <= len(node.output) <= schema.max_output:
        raise bad_model(
            "MM103", f"{len(node.output)} outputs, not {schema.min_output} to {schema.max_output}"
        )
    known = schema.attributes
    for name, given in attributes.items():
        if name not in known:
            raise bad_model("MM103", f'operator set {version} knows no attribute "{printable(name)}"')
        wanted = str(known[name].type).rpartition(".")[2]  # AttrType.INTS
        if given.type != AttributeProto.AttributeType.Value(wanted):
            raise bad_model("MM103", f"attribute {name} is not of type {wanted}")
    missing = [name for name, described in known.items() if described.required and name not in attributes]
    if missing:
        raise bad_model("MM103", f"attribute {missing[0]} is missing")
    return schema, attributes
