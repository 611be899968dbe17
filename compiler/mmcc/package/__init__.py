# SPDX-License-Identifier: Apache-2.0
"""The package on disk: its record, its folder, and its C built for this machine."""
