# SPDX-License-Identifier: Apache-2.0
"""Groups of nodes that run row by row: their schedules, what they hold, paths of groups."""
