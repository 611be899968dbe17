# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a command. What is heavy is imported by the command that needs it."""

from mmcc.cli.main import main

__all__ = ["main"]
