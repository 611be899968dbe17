# SPDX-License-Identifier: Apache-2.0
"""Plans in several memories: which region each buffer is in, chosen together with the groups."""
