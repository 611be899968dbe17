# SPDX-License-Identifier: Apache-2.0
"""In names of constants that an operator needs and the model does not have: training leaves them."""

from __future__ import annotations

import re

NO_BIAS, NO_SCALE, NO_WEIGHTS = (".no_bias", ".no_scale", ".no_weights")

# at the end, but for numbers and what passes append: a module of the model may be called so
IS_ABSENT = re.compile(r"\.no_(bias|scale|weights)(_[a-z]+|[._]\d+)*$")
