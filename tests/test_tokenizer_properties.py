"""Arbitrary text through tokenizers: nothing is lost that need not be, pieces are pieces."""

from __future__ import annotations

import functools
import json
import pathlib

import pytest
import tokenizers as library
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqjax.data import tokenizers
from seqjax.data.vocabulary import Vocabulary

FILES = pathlib.Path(__file__).resolve().parent / "goldens" / "tokenizers"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""Anything but halves of characters, which no file of UTF-8 has."""


@functools.cache
def gpt2() -> tokenizers.GPT2Tokenizer:
    files = FILES / "vocab_merges"
    return tokenizers.GPT2Tokenizer(encoder_json=(files / "vocab.json").read_bytes(),
                                    vocab_bpe=(files / "merges.txt").read_bytes())


@functools.cache
def hugging_face(name: str) -> tokenizers.HuggingFaceTokenizer:
    return tokenizers.HuggingFaceTokenizer(
        tokenizer_json=(FILES / name / "tokenizer.json").read_bytes())


@functools.cache
def with_spaces() -> tokenizers.HuggingFaceTokenizer:
    """Its pieces have all kinds of white space in them, and one is spelled like an escape."""
    symbols = ["</s>", "<unk>", "\\u0020", "\\\\u0020", " ", "\t", "\u3000", "a b", "\\", "u", "0",
               *"abcdefghij", ""]
    made = library.Tokenizer(library.models.BPE(
        {symbol: i for i, symbol in enumerate(symbols)}, [], unk_token="<unk>"))
    made.add_tokens(["a b", "\\u0020", "two  words"])
    return tokenizers.HuggingFaceTokenizer(tokenizer_json=made.to_str().encode())


@settings(deadline=None, max_examples=300)
@given(TEXT)
@example("\u2028 \x1c\x85\u3000")
def test_byte_level_text_comes_back(text: str) -> None:
    pieces = gpt2().encode(text)
    assert gpt2().decode(pieces) == text
    assert " ".join(pieces.split()) == pieces
    assert set(pieces.split()) <= set(gpt2().symbols())
    assert hugging_face("roberta").decode_ids(hugging_face("roberta").encode_ids(text)) == text \
        or "<" in text


@settings(deadline=None, max_examples=300)
@given(TEXT, st.sampled_from(["roberta", "bert", "xlmr"]))
def test_pieces_say_the_library_s_ids_and_text(text: str, name: str) -> None:
    made = hugging_face(name)
    plain = library.Tokenizer.from_file(str(FILES / name / "tokenizer.json"))
    ids = plain.encode(text, add_special_tokens=False).ids
    vocabulary = made.vocabulary()
    assert vocabulary.encode_line(made.encode(text), append_eos=False).tolist() == ids
    assert made.decode(" ".join(vocabulary.symbols[i] for i in ids)) == plain.decode(ids)


@settings(deadline=None, max_examples=300)
@given(st.text(" \t\u3000ab\\u02c", max_size=30))
@example("a b\\u0020 \\\\u0020two  words")
def test_white_space_in_pieces_survives(text: str) -> None:
    made = with_spaces()
    ids = made.encode_ids(text)
    vocabulary = made.vocabulary()
    assert len(set(vocabulary.symbols)) == len(vocabulary)
    assert not any(set(s) & set(" \t\u3000") or not s for s in vocabulary.symbols)
    assert vocabulary.encode_line(made.encode(text), append_eos=False).tolist() == ids
    assert made.decode(" ".join(vocabulary.symbols[i] for i in ids)) == made.decode_ids(ids)
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary


@settings(deadline=None, max_examples=200)
@given(TEXT)
def test_bert_and_sentencepiece_make_pieces_of_anything(text: str) -> None:
    bert = tokenizers.BertTokenizer(vocab=(FILES / "vocab_txt" / "vocab.txt").read_bytes())
    spm = tokenizers.SentencePieceTokenizer(
        model=(FILES / "xlmr_spm" / "sentencepiece.bpe.model").read_bytes(),
        special=["<mask>", "en_XX"])
    assert set(bert.encode(text).split()) <= set(bert.symbols())
    marked = f"{text}<mask>{text}en_XX"
    assert spm.encode(marked).split().count("<mask>") >= 1
    assert "en_XX" not in spm.decode(spm.encode(marked))


@settings(deadline=None, max_examples=200)
@given(TEXT)
def test_states_make_the_same_again(text: str) -> None:
    for made in (gpt2(), hugging_face("bert"), with_spaces()):
        again = tokenizers.from_state(made.to_state())
        assert again == made and again.encode(text) == made.encode(text)


@pytest.mark.parametrize(("content", "message"), [
    (b"\xff", "not UTF-8"), (b"{", "no JSON"), (b"[]", 'it has no "model"'),
    (json.dumps({"<s>": 0}).encode(), 'it has no "model"'),
    (json.dumps({"model": {"type": "Nonsense"}}).encode(), "that the library tokenizers reads"),
])
def test_what_is_no_tokenizer_json(content: bytes, message: str) -> None:
    with pytest.raises(tokenizers.TokenizerError, match=message) as caught:
        tokenizers.HuggingFaceTokenizer(tokenizer_json=content)
    assert "\n" not in str(caught.value)
