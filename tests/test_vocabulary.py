"""`Vocabulary` follows fairseq's dictionary."""

from __future__ import annotations

import numpy as np
import pytest

from seqjax.data.vocabulary import Vocabulary, VocabularyError, post_process


def small() -> Vocabulary:
    vocabulary = Vocabulary()
    vocabulary.add_counts({"b": 3, "a": 3, "zoo": 5, "rare": 1, "ä": 3})
    return vocabulary


def test_special_ids() -> None:
    vocabulary = Vocabulary(["x"], extra_special_symbols=["<mask>"])
    assert (vocabulary.bos, vocabulary.pad, vocabulary.eos, vocabulary.unk) == (0, 1, 2, 3)
    assert vocabulary.symbols == ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "x"]
    assert vocabulary.num_special == 5
    assert vocabulary.index("x") == 5
    assert vocabulary.index("nowhere") == 3
    assert vocabulary[5] == "x"
    assert vocabulary[99] == "<unk>"
    assert "x" in vocabulary and "nowhere" not in vocabulary


def test_finalize_orders_by_count_then_code_point_and_pads() -> None:
    vocabulary = small()
    vocabulary.finalize()
    assert vocabulary.symbols[4:] == ["zoo", "a", "b", "ä", "rare"] + [
        f"madeupword{i:04d}" for i in range(7)
    ]
    assert vocabulary.counts[4:] == [5, 3, 3, 3, 1] + [0] * 7
    assert len(vocabulary) == 16
    assert [vocabulary.index(w) for w in vocabulary.symbols] == list(range(16))


def test_finalize_threshold_and_nwords() -> None:
    vocabulary = small()
    vocabulary.finalize(threshold=3, padding_factor=1)
    assert vocabulary.symbols[4:] == ["zoo", "a", "b", "ä"]
    vocabulary = small()
    vocabulary.finalize(nwords=6, padding_factor=1)  # special symbols count
    assert vocabulary.symbols[4:] == ["zoo", "a"]
    vocabulary = small()
    vocabulary.finalize(nwords=2, padding_factor=0)
    assert len(vocabulary) == 4


def test_special_words_in_text_add_to_special_counts() -> None:
    vocabulary = Vocabulary()
    vocabulary.add_counts({"<unk>": 7, "</s>": 2, "w": 1})
    vocabulary.finalize(padding_factor=1)
    assert vocabulary.symbols == ["<s>", "<pad>", "</s>", "<unk>", "w"]
    assert vocabulary.counts[2:4] == [3, 8]


def test_file_round_trip(tmp_path) -> None:
    vocabulary = small()
    vocabulary.add_symbol("line\u2028inside", 2)
    vocabulary.finalize()
    path = tmp_path / "dict.txt"
    vocabulary.save(path)
    assert path.read_bytes().startswith(b"zoo 5\na 3\n")
    again = Vocabulary.load(path)
    assert again == vocabulary
    assert again.counts[4:] == vocabulary.counts[4:]
    assert list(tmp_path.iterdir()) == [path]


def test_load_splits_at_the_last_space_and_does_not_pad() -> None:
    vocabulary = Vocabulary.parse("a b 3\nc 1  \n\u3000 2\n")
    assert vocabulary.symbols[4:] == ["a b", "c", "\u3000"]
    assert vocabulary.counts[4:] == [3, 1, 2]


def test_overwrite_gives_a_new_id() -> None:
    vocabulary = Vocabulary.parse("a 3\nb 2\na 9 #fairseq:overwrite\n")
    assert vocabulary.symbols[4:] == ["a", "b", "a"]
    assert vocabulary.index("a") == 6
    assert Vocabulary.parse("<unk> 9 #fairseq:overwrite\n").index("<unk>") == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\nb 2\na 3\n", r"d\.txt:3: 'a' is listed twice \(first as id 4\).*#fairseq:overwrite"),
        ("<s> 1\n", r"d\.txt:1: '<s>' is listed twice"),
        ("a 1\nb two\n", r"d\.txt:2: expected 'word count'.*'b two'"),
        ("a 1\n\nb 1\n", r"d\.txt:2: expected"),
        ("alone\n", r"d\.txt:1: expected"),
    ],
)
def test_bad_lines_are_named(text: str, message: str) -> None:
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.parse(text, name="d.txt")


def test_bad_files_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.txt: no such dictionary"):
        Vocabulary.load(tmp_path / "nothing.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 3\n")
    with pytest.raises(VocabularyError, match=r"latin\.txt: not UTF-8 \(byte 3\)"):
        Vocabulary.load(tmp_path / "latin.txt")


def test_encode_line() -> None:
    vocabulary = Vocabulary(["a", "b"])
    ids = vocabulary.encode_line("  a\u00a0b\tx \u2028 b\n")
    assert ids.dtype == np.int32
    assert ids.tolist() == [4, 5, 3, 5, 2]
    assert vocabulary.encode_line("a", append_eos=False).tolist() == [4]
    assert vocabulary.encode_line("").tolist() == [2]


def test_string() -> None:
    vocabulary = Vocabulary(["he@@", "llo", "you"])
    ids = np.array([0, 4, 5, 3, 6, 2, 1])
    assert vocabulary.string(ids) == "he@@ llo <unk> you <pad>"
    assert vocabulary.string(ids[:-1], post_process="subword_nmt") == "hello <unk> you"
    assert vocabulary.string([3], escape_unk=True) == "<<unk>>"
    assert vocabulary.string([3, 4], unk_string="?") == "? he@@"
    assert vocabulary.string([4, 2], include_eos=True) == "he@@ </s>"
    assert vocabulary.string([4, 6], extra_symbols_to_ignore={6}) == "he@@"
    assert vocabulary.string([4, 5], separator="+") == "he@@+llo"
    assert vocabulary.string(ids[:6].reshape(2, 3)) == "he@@ llo\n<unk> you"


@pytest.mark.parametrize(
    ("kind", "pieces", "text"),
    [
        (None, "a@@ b", "a@@ b"),
        ("none", "a@@ b", "a@@ b"),
        ("@@ ", "a@@ b c@@", "ab c"),
        ("@@", "a@@ b", "a b"),
        ("subword_nmt", "a@@ b c", "ab c"),
        ("sentencepiece", "\u2581He llo \u2581you", "Hello you"),
        ("wordpiece", "_He llo _you", "Hello you"),
        ("letter", "H I | Y O U |", "HI YOU"),
        ("silence", "<SIL> a <SIL> b <SIL>", "a b"),
        ("_EOW", "a b_EOW c_EOW", "ab c"),
    ],
)
def test_post_process(kind: str | None, pieces: str, text: str) -> None:
    assert post_process(pieces, kind) == text


def test_post_process_unknown() -> None:
    with pytest.raises(ValueError, match="'bpe' is unknown. Known: none"):
        post_process("a", "bpe")


def test_bytes_round_trip() -> None:
    vocabulary = Vocabulary(["ü", "w"], extra_special_symbols=["<lang:de>"])
    vocabulary.add_symbol("w", 4, overwrite=True)
    vocabulary.add_symbol("<mask>")
    again = Vocabulary.from_bytes(vocabulary.to_bytes())
    assert again == vocabulary
    assert again.counts == vocabulary.counts
    assert again.indices == vocabulary.indices
    assert again.num_special == 5
    with pytest.raises(VocabularyError, match="hold no vocabulary"):
        Vocabulary.from_bytes(b"zip")
    with pytest.raises(VocabularyError, match="special"):
        Vocabulary.from_bytes(b'{"symbols": ["a"], "counts": [1], "num_special": 0}')


def test_inequality() -> None:
    assert Vocabulary(["a"]) != Vocabulary(["b"])
    assert Vocabulary(["a"]) != "a"


def test_words_that_replace_earlier_ones_are_written_so() -> None:
    """fairseq writes such a dictionary without the marks, and then refuses it."""
    text = "<pad> 5 #fairseq:overwrite\na 4\nb 3\na 2 #fairseq:overwrite\n"
    vocabulary = Vocabulary.parse(text)
    assert vocabulary.to_text() == text
    again = Vocabulary.parse(vocabulary.to_text())
    assert (again.index("<pad>"), again.pad, again.index("a")) == (4, 1, 7)
    assert again == vocabulary == Vocabulary.from_bytes(vocabulary.to_bytes())
