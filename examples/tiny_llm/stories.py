# SPDX-License-Identifier: Apache-2.0
"""The text that the tiny language model learns: short stories by a grammar, and what is wrong with one.

A story names things early and needs them again: who it is about, what was lost, where it was seen, who
helped. A model that only knows which words follow which gets these wrong.
"""

from __future__ import annotations

import numpy as np

NAMES = ("mia", "tom", "lily", "ben", "anna", "max", "sara", "leo", "emma", "finn")
ANIMALS = ("fox", "bear", "cat", "dog", "mouse", "owl", "duck", "frog")
KINDS = ("clever", "small", "brave", "shy", "funny", "old")
COLORS = ("red", "blue", "green", "yellow", "white", "black")
ITEMS = ("hat", "ball", "kite", "drum", "boat", "scarf", "book", "bell")
PLACES = (
    ("under", "the", "bed"),
    ("behind", "the", "house"),
    ("in", "the", "garden"),
    ("near", "the", "river"),
    ("on", "the", "hill"),
    ("by", "the", "gate"),
    ("inside", "the", "barn"),
    ("below", "the", "bridge"),
)
ENDINGS = (
    ("danced", "all", "night"),
    ("sang", "a", "song"),
    ("became", "good", "friends"),
    ("shared", "a", "cake"),
)

END = "<end>"
LENGTH = 64  # words of a story, its end included: the model's positions


def story(rng: np.random.Generator) -> list[str]:
    """One story, word by word."""
    name, kind, color, item = (str(rng.choice(words)) for words in (NAMES, KINDS, COLORS, ITEMS))
    animal, helper = (str(word) for word in rng.choice(ANIMALS, 2, replace=False))
    first, second, there = (PLACES[k] for k in rng.choice(len(PLACES), 3, replace=False))
    ending = ENDINGS[rng.integers(len(ENDINGS))]
    return _told(name, kind, animal, color, item, first, second, helper, there, ending)


Words = tuple[str, ...]


def _told(
    name: str,
    kind: str,
    animal: str,
    color: str,
    item: str,
    first: Words,
    second: Words,
    helper: str,
    there: Words,
    ending: Words,
) -> list[str]:
    sentences = (
        ("once", "there", "was", "a", kind, animal, "named", name),
        (name, "had", "a", color, item),
        ("one", "day", "the", item, "was", "gone"),
        (name, "looked", *first, "and", *second),
        ("then", "a", helper, "came"),
        ("the", helper, "had", "seen", "the", color, item, *there),
        (name, "found", "it", *there),
        (name, "and", "the", helper, *ending),
    )
    return [word for sentence in sentences for word in (*sentence, ".")] + [END]


def vocabulary() -> list[str]:
    """All words, the end of a story first."""
    words: set[str] = set()
    for number in range(len(PLACES) * len(NAMES)):
        at = [number % len(each) for each in (NAMES, KINDS, ANIMALS, COLORS, ITEMS, PLACES)]
        words |= set(
            _told(
                NAMES[at[0]],
                KINDS[at[1]],
                ANIMALS[at[2]],
                COLORS[at[3]],
                ITEMS[at[4]],
                PLACES[at[5]],
                PLACES[at[5]],
                ANIMALS[at[2]],
                PLACES[at[5]],
                ENDINGS[number % len(ENDINGS)],
            )
        )
    return [END, *sorted(words - {END})]


def faults(words: list[str]) -> list[str]:
    """What is wrong with a story; empty if it could be one of these."""
    if len(words) < 8 or words[:4] != ["once", "there", "was", "a"] or words[-1:] != [END]:
        return ["no beginning or no end"]
    try:
        kind, animal, name = words[4], words[5], words[7]
        color, item = words[12], words[13]
        look = words.index("looked") + 1
        first, second = tuple(words[look : look + 3]), tuple(words[look + 4 : look + 7])
        helper = words[words.index("came") - 1]
        seen = words.index("seen")
        there = tuple(words[seen + 4 : seen + 7])
        ending = tuple(words[-5:-2])
    except (IndexError, ValueError):
        return ["a sentence is missing"]
    wrong = (
        []
        if words == _told(name, kind, animal, color, item, first, second, helper, there, ending)
        else ["something is forgotten on the way"]
    )
    known = zip(
        (name, kind, animal, color, item, helper, first, second, there, ending),
        (NAMES, KINDS, ANIMALS, COLORS, ITEMS, ANIMALS, PLACES, PLACES, PLACES, ENDINGS),
        strict=True,
    )
    wrong += [f"{word} is out of place" for word, among in known if word not in among]
    if helper == animal:
        wrong.append("the helper is no other animal")
    if len({first, second, there}) < 3:
        wrong.append("a place comes twice")
    return wrong
