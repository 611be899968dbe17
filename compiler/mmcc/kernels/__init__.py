# SPDX-License-Identifier: Apache-2.0
"""How each operator becomes a kernel call: template, options, and the numbers of its constant struct."""
