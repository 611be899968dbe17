# SPDX-License-Identifier: Apache-2.0
"""TfIdfVectorizer: how often sequences of numbers occur in a row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mmcc.frontend.written_out.body import MOST_CONSTANT, Body, ints, writes

MOST_COMPARED = 1000  # elements of an n-gram, times the distances that they may have


@writes("TfIdfVectorizer")
def _tf_idf(body: Body) -> Sequence[str]:
    """Each place of a row is compared with each n-gram, whose elements may lie some places apart."""
    given, shape = body.attributes, body.shape(0)
    rows, length = (1, *shape)[-2:]
    pool = np.array(given["pool_int64s"], np.int64)
    begins, columns = [*given["ngram_counts"], len(pool)], np.array(given["ngram_indexes"])
    x = body.add("Cast", body.add("Reshape", "x0", ints(rows, length)), to=7)
    parts: list[str] = []
    for size, (begin, end) in enumerate(pairwise(begins), 1):
        grams = pool[begin:end].reshape(-1, size)
        if len(grams) * rows * length > MOST_CONSTANT:
            raise LookupError("too large")
        counted = given["min_gram_length"] <= size <= given["max_gram_length"]
        most = min(given["max_skip_count"] + 1, (length - 1) // (size - 1)) if size > 1 else 1
        if size * most > MOST_COMPARED:
            raise LookupError("too many elements to compare")
        found = [_occurrences(body, x, length, grams, k) for k in range(1, most + 1)] if counted else []
        if not found:
            parts.append(body.constant(np.zeros((rows, len(grams)), np.float32)))
        elif len(grams):
            parts.append(body.add("Sum", *found))
    if len(columns) != len({*columns.tolist()}) or columns.min() < 0 or columns.max() > MOST_CONSTANT:
        raise LookupError("two n-grams are counted together")
    if sum(len(pool[a:b]) // size for size, (a, b) in enumerate(pairwise(begins), 1)) != len(columns):
        raise LookupError("n-grams without a column")
    counts = body.add("Concat", *parts, axis=1)
    mode, weights = body.text("mode", "TF"), np.array(given.get("weights", []), np.float32)
    counts = body.add("Min", counts, 1.0) if mode == "IDF" else counts
    counts = body.add("Mul", counts, weights[None]) if mode != "TF" and weights.size else counts
    nothing = np.zeros((rows, 1), np.float32)  # of columns that belong to no n-gram
    source = np.full(columns.max() + 1, len(columns), np.int64)
    source[columns] = np.arange(len(columns))
    made = body.add("Gather", body.add("Concat", counts, nothing, axis=1), source, axis=1)
    return [body.add("Reshape", made, ints(*shape[:-1], len(source)))]


def _occurrences(body: Body, x: str, length: int, grams: np.ndarray, apart: int) -> str:
    """How often each of the n-grams occurs in each row, with its elements so far apart."""
    size = grams.shape[1]
    places = length - (size - 1) * apart
    there = ""
    for k in range(size):
        part = body.add("Slice", x, ints(k * apart), ints(k * apart + places), ints(1))
        same = body.add("Equal", body.add("Unsqueeze", part, ints(1)), grams[None, :, k, None].copy())
        there = body.add("And", there, same) if there else same
    return body.add("ReduceSum", body.add("Cast", there, to=1), ints(2), keepdims=0)
