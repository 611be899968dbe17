# SPDX-License-Identifier: Apache-2.0
"""Decision trees: tables in flash, each in the narrowest type that holds it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.program import KernelUse
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.trees import TreeEnsemble


def _narrowest(*tables: NDArray[Any]) -> ElementType:
    """The smallest signed type that holds all elements."""
    least = min(int(table.min(initial=0)) for table in tables)
    most = max(int(table.max(initial=0)) for table in tables)
    types = (ElementType.I8, ElementType.I16)
    return next((t for t in types if t.least <= least and most <= t.most), ElementType.I32)


@layer(TreeEnsemble)
def tree_ensemble(op: TreeEnsemble, site: Site) -> KernelUse:
    """A node is a feature, a threshold, and two places side by side."""
    feature, threshold, yes, no, roots, target, weight = (operand.constant() for operand in site.inputs[1:])
    kinds = {
        "feature": _narrowest(feature),
        "place": _narrowest(yes, no, roots),
        "target": _narrowest(target),
    }
    options = (*((name, kind.ctype) for name, kind in kinds.items()), ("aggregate", op.aggregate))
    place = kinds["place"].numpy
    fields = (
        ("x", source_view(site, 0)),
        ("y", site.output.where()),
        ("feature", site.keep("feature", feature.astype(kinds["feature"].numpy))),
        ("threshold", site.keep("threshold", threshold)),
        ("next", site.keep("next", np.stack([yes, no], -1).astype(place))),
        ("roots", site.keep("roots", roots.astype(place))),
        ("target", site.keep("target", target.astype(kinds["target"].numpy))),
        ("weight", site.keep("weight", weight)),
        ("targets", op.targets),
        ("trees", len(roots)),
    )
    return KernelUse("tree_ensemble", options, fields)
