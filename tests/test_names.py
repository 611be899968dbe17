"""Text from a model reaches C only as an identifier or escaped."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmcc.codegen.names import escape, identifier, is_identifier

pytestmark = pytest.mark.quick

NAMES = ["int", "a/b", "a.b", "a_b", "9x", "", "_", "__a", "main"]
TEXTS = st.one_of(st.text(max_size=80), st.sampled_from(NAMES))
ATTACKS = ['"; system("x"); "', "*/ int x; /*", "a\nb", "??/", "${HOME}", "%s", "\u202e"]


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
    assert re.fullmatch(r"[ !#&'()+,\-./0-9:<=>@A-Z\[\]^_a-z{|}~]*", escape(text))


@pytest.mark.parametrize("text", ATTACKS)
def test_hostile_text_is_harmless(text):
    safe = escape(text)
    assert "*/" not in safe
    assert "\n" not in safe
    assert '"' not in safe
    assert "??" not in safe
    assert "$" not in safe
    assert safe.isascii()
