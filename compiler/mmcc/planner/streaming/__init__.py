# SPDX-License-Identifier: Apache-2.0
"""Where weights from slow memory are, and when."""
