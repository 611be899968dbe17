# SPDX-License-Identifier: Apache-2.0
"""The only ways in which text from a model reaches C: as an identifier, or escaped in a comment or string."""

from __future__ import annotations

import hashlib
import re

from mmcc.errors import whole_words

LONGEST = 40

_KEYWORDS = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline int long
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile
    while alignas alignof and and_eq asm bitand bitor bool catch class compl concept const_cast consteval
    constexpr constinit co_await co_return co_yield decltype delete dynamic_cast explicit export false friend
    mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    reinterpret_cast requires static_assert static_cast template this thread_local throw true try typeid
    typename using virtual wchar_t xor xor_eq char8_t char16_t char32_t main errno linux unix arm
    """.split()  # noqa: SIM905
)


def identifier(text: str) -> str:
    """A C identifier for `text`: ASCII, no keyword, and different for different texts.

    Text that is an identifier already stays as it is; otherwise a hash of the text keeps it distinct.
    """
    clean = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:LONGEST]
    if not clean or clean[0].isdigit():
        clean = f"m{clean}"
    if clean == text and clean not in _KEYWORDS and "__" not in clean:
        return clean
    clean = re.sub(r"__+", "_", clean)
    return f"{clean}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def is_identifier(text: str) -> bool:
    """True if the user may use `text` as the prefix of every symbol."""
    return (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", text) is not None
        and text not in _KEYWORDS
        and "__" not in text
    )


def escape(text: str, limit: int = 100) -> str:
    """`text` safe in a C comment or string literal, in quotes in CMake, and in HTML; at most `limit` long.

    Printable ASCII without signs that mean something there; others become their code in braces, {2a}. So
    different texts stay different, unless they are cut.
    """
    if sum(len(_sign(c)) for c in text) <= limit:
        return "".join(map(_sign, text))
    room, kept = limit - 3, 0
    while len(_sign(text[kept])) <= room:
        room -= len(_sign(text[kept]))
        kept += 1
    return "".join(map(_sign, whole_words(text[:kept]))) + "..."


def _sign(c: str) -> str:
    return c if " " <= c <= "~" and c not in '\\"`$*?%<>&{' else f"{{{ord(c):x}}}"
