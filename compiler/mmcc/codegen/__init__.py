# SPDX-License-Identifier: Apache-2.0
"""Plan -> Program -> C text and the files around it."""
