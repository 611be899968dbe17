# SPDX-License-Identifier: Apache-2.0
"""From a graph that infers to a module that also trains: gradients, parameters, optimizers, entries."""
