# SPDX-License-Identifier: Apache-2.0
"""Text from a model reaches C only as an identifier or escaped."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmcc.codegen.names import escape, identifier, is_identifier
from mmcc.errors import printable

pytestmark = pytest.mark.quick

NAMES = ["int", "a/b", "a.b", "a_b", "9x", "", "_", "__a", "main"]
TEXTS = st.one_of(st.text(max_size=80), st.sampled_from(NAMES))
ATTACKS = [
    "<script>alert(1)</script>",
    "&lt;",
    '"; system("x"); "',
    "*/ int x; /*",
    "a\nb",
    "??/",
    "${HOME}",
    "%s",
    "\u202e",
]


@given(TEXTS)
def test_an_identifier_is_ascii_and_no_keyword(text):
    assert is_identifier(identifier(text)), identifier(text)


@given(st.lists(TEXTS, unique=True, max_size=20))
def test_different_texts_have_different_identifiers(texts):
    assert len({identifier(text) for text in texts}) == len(texts)


def test_an_identifier_stays_as_it_is():
    assert identifier("kws_dscnn_v2") == "kws_dscnn_v2"


@given(TEXTS)
def test_escaped_text_ends_no_comment_and_no_string(text):
    assert re.fullmatch(r"[ !#'()+,\-./0-9:;=@A-Z\[\]^_a-z{|}~]*", escape(text))


@given(st.lists(st.text(max_size=11), unique=True, max_size=20))
def test_different_texts_are_escaped_differently(texts):
    assert len({escape(text) for text in texts}) == len(texts)


@given(TEXTS, st.integers(8, 60))
def test_escaped_text_keeps_to_the_limit_and_breaks_no_code(text, limit):
    safe = escape(text, limit)
    assert len(safe) <= limit
    assert not re.search(r"\{[0-9a-f]*$", safe.removesuffix("..."))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("functional_1/activation/Relu;functional_1/batch_norm", "functional_1/activation/Relu;..."),
        ("functional_1/batch_normalization/FusedBatchNormV3", "functional_1/..."),
        ("/features/features.12/conv/conv.0/Conv_output_0", "/features/features.12/conv/..."),
        ("a" * 60, "a" * 29 + "..."),
        ("kept;as/it.is", "kept;as/it.is"),
    ],
)
def test_a_long_name_is_cut_between_words(name, short):
    assert escape(name, 32) == short
    assert printable(name, 32) == short


@pytest.mark.parametrize("text", ATTACKS)
def test_hostile_text_is_harmless(text):
    safe = escape(text)
    assert "*/" not in safe
    assert "\n" not in safe
    assert '"' not in safe
    assert "??" not in safe
    assert "$" not in safe
    assert not set("<>&") & set(safe)
    assert safe.isascii()
