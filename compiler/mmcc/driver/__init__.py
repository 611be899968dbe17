# SPDX-License-Identifier: Apache-2.0
"""What the commands do: the order of all parts, and the limits they must keep together."""
