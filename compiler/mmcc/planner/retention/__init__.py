# SPDX-License-Identifier: Apache-2.0
"""Which of the values that are read again later are kept until then."""
