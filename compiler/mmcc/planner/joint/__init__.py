# SPDX-License-Identifier: Apache-2.0
"""Groups and offsets chosen in one model."""
