# SPDX-License-Identifier: Apache-2.0
"""In names of constants that an operator needs and the model does not have: training leaves them."""

from __future__ import annotations

NO_BIAS, NO_SCALE, NO_WEIGHTS = ABSENT = (".no_bias", ".no_scale", ".no_weights")
