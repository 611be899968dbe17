# SPDX-License-Identifier: Apache-2.0
"""Does the C compute what the references say? Asked by every compile, and by verify."""
