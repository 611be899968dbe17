# SPDX-License-Identifier: Apache-2.0
"""Cases of every float operator and every operator that moves elements, by family."""

from __future__ import annotations

from op_cases_elementwise import (
    conversions,
    functions_of_one,
    functions_of_two,
    narrow_conversions,
    quantizations,
    selections,
)
from op_cases_float_layers import convolutions, matrices, pools, transposed_convolutions
from op_cases_fourier import frames, transforms
from op_cases_indexing import cumulations, scatters, takes
from op_cases_movement import concatenations, look_ups, movements, resizes, sequence_starts, shifts
from op_cases_recurrent import recurrent_layers, trained_layers
from op_cases_reduce import normalizations, reductions
from op_cases_training import (
    function_gradients,
    layer_gradients,
    losses,
    optimizer_steps,
    plain_layers,
    pool_gradients,
)
from op_cases_trees import forests

FAMILIES = {
    "convolutions": convolutions,
    "transposed_convolutions": transposed_convolutions,
    "matrices": matrices,
    "pools": pools,
    "functions_of_one": functions_of_one,
    "functions_of_two": functions_of_two,
    "selections": selections,
    "conversions": conversions,
    "narrow_conversions": narrow_conversions,
    "quantizations": quantizations,
    "reductions": reductions,
    "normalizations": normalizations,
    "recurrent_layers": recurrent_layers,
    "trained_layers": trained_layers,
    "resizes": resizes,
    "movements": movements,
    "look_ups": look_ups,
    "concatenations": concatenations,
    "shifts": shifts,
    "sequence_starts": sequence_starts,
    "takes": takes,
    "scatters": scatters,
    "cumulations": cumulations,
    "transforms": transforms,
    "frames": frames,
    "forests": forests,
    "plain_layers": plain_layers,
    "layer_gradients": layer_gradients,
    "pool_gradients": pool_gradients,
    "function_gradients": function_gradients,
    "losses": losses,
    "optimizer_steps": optimizer_steps,
}
