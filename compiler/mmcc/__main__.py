# SPDX-License-Identifier: Apache-2.0
"""`python -m mmcc` is the command `mmcc`."""

from mmcc.cli import main

main(prog_name="mmcc")
