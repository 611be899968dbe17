# SPDX-License-Identifier: Apache-2.0
"""What no plan can do with less; each shares its assumptions with no search."""
