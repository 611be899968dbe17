# SPDX-License-Identifier: Apache-2.0
"""Float convolutions of 3x3 with fewer products, in sums of another order than plain ones have."""
