# SPDX-License-Identifier: Apache-2.0
"""What a package is told to need and to hold: report.json, report.txt and report.html."""
