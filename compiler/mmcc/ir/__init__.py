# SPDX-License-Identifier: Apache-2.0
"""The values that pass between the parts: Graph, Nest, Plan, Program. They import nothing above."""
