# SPDX-License-Identifier: Apache-2.0
"""Gradients of operators: one function an op class, registered with `@gradient(OpClass)`, one file a family.

A rule writes into a graph the nodes that make, of the gradient of an op's result, those of its operands. What
it reads of the forward pass is thereby an operand like any other: the planner sees what has to be kept, and
until when.
"""
