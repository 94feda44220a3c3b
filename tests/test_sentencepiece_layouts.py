"""Where the pieces of a SentencePiece model stand in fairseq's and Hugging Face's vocabularies."""

from __future__ import annotations

import io
import json
import pathlib

import pytest
import sentencepiece

from seqjax.data import tokenizers
from seqjax.data.tokenizers import TokenizerError, folders
from seqjax.data.vocabulary import Vocabulary

FILES = pathlib.Path(__file__).resolve().parent / "goldens" / "tokenizers"
MODEL = (FILES / "xlmr_spm" / "sentencepiece.bpe.model").read_bytes()
LINE = "In the year that king Ahaz died was this burden ."


def own_ids() -> list[int]:
    return sentencepiece.SentencePieceProcessor(model_proto=MODEL).encode(LINE)


def ids(vocabulary: Vocabulary) -> list[int]:
    tokenizer = tokenizers.SentencePieceTokenizer(model=MODEL)
    return vocabulary.encode_line(tokenizer.encode(LINE), append_eos=False).tolist()


@pytest.mark.parametrize(("layout", "offset", "unknown"), [
    ("fairseq", 1, 3), ("xlmr", 1, 3), ("mbart", 1, 3), ("xglm", 1, 3), ("camembert", 4, 3),
    ("sentencepiece", 0, 0)])
def test_ids_are_those_of_the_model_and_an_offset(layout: str, offset: int, unknown: int) -> None:
    vocabulary = tokenizers.vocabulary_of_sentencepiece(
        MODEL, layout=layout, languages=["en_XX", "de_DE"])
    assert ids(vocabulary) == [i + offset if i else unknown for i in own_ids()]
    size = sentencepiece.SentencePieceProcessor(model_proto=MODEL).GetPieceSize()
    assert vocabulary.index("en_XX") == size + offset
    assert vocabulary.index("de_DE") == size + offset + 1
    ends = {"xlmr": 1, "mbart": 1, "camembert": 1, "xglm": 7}
    assert len(vocabulary) == size + offset + 2 + ends.get(layout, 0)
    if ends.get(layout) == 1:
        assert vocabulary.index("<mask>") == len(vocabulary) - 1


def test_special_ids() -> None:
    made = {name: tokenizers.vocabulary_of_sentencepiece(MODEL, layout=name)
            for name in ("xlmr", "camembert", "sentencepiece")}
    assert made["xlmr"].special_ids == (0, 1, 2, 3) and made["xlmr"].is_fairseq
    assert made["camembert"].special_ids == (5, 1, 6, 3)
    # The model itself has nothing that pads: an id behind the last does.
    own = made["sentencepiece"]
    assert own.special_ids == (1, len(own), 2, 0)
    assert [own[i] for i in range(3)] == ["<unk>", "<s>", "</s>"]


def test_a_longer_table_of_embeddings() -> None:
    plain = tokenizers.vocabulary_of_sentencepiece(MODEL, layout="xlmr")
    longer = tokenizers.vocabulary_of_sentencepiece(MODEL, layout="xlmr", size=len(plain) + 2)
    assert len(longer) == len(plain) + 2
    assert longer.symbols[: len(plain)] == plain.symbols
    assert longer.symbols[-1] == f"madeupword{len(plain) + 1:04d}"


def test_mistakes() -> None:
    with pytest.raises(TokenizerError, match="layout 'xlm' .* Known: fairseq, xlmr, mbart"):
        tokenizers.vocabulary_of_sentencepiece(MODEL, layout="xlm")
    with pytest.raises(TokenizerError, match=r"is not the model's: it has \d+ symbols, the model 9;"
                       " the first without a row is"):
        tokenizers.vocabulary_of_sentencepiece(MODEL, size=9)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=iter([LINE] * 20), model_writer=model, vocab_size=40, minloglevel=2,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, hard_vocab_limit=False)
    with pytest.raises(TokenizerError, match="begins with <pad>, <unk>, <s>: fairseq's ids are"):
        tokenizers.vocabulary_of_sentencepiece(model.getvalue(), layout="xlmr")
    own = tokenizers.vocabulary_of_sentencepiece(model.getvalue(), layout="sentencepiece")
    assert own.special_ids == (2, 0, 3, 1)
    for content, message in (
        (b'{"a": 0, "b": 2, "</s>": 3}', "its ids are not 0, 1, 2, ...: 1 is missing.*'b'"),
        (b'{"a": 0}', "none of its symbols is known to end a text"), (b"[]", "expected an object"),
        (b'{"a": "0"}', "expected an object"), (b"{", "not JSON"),
    ):
        with pytest.raises(TokenizerError, match=message):
            tokenizers.vocabulary_of_json(content)


def files(name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (FILES / name).iterdir()}


def test_a_folder_s_dictionaries_are_as_long_as_its_model_s() -> None:
    config = json.dumps({"model_type": "marian", "vocab_size": 600, "decoder_vocab_size": 601,
                         "eos_token_id": 0, "pad_token_id": 599}).encode()
    found = folders.of_files({**files("marian"), "config.json": config})
    assert found is not None
    source, target = found.vocabularies()
    assert (len(source), len(target)) == (600, 601)
    assert (source.eos, source.pad, source.unk) == (0, 599, 1)
    short = json.dumps({"vocab_size": 9}).encode()
    found = folders.of_files({**files("bert"), "config.json": short})
    assert found is not None
    with pytest.raises(TokenizerError, match=r"tokenizer.json is not the model's.* model 9"):
        found.vocabularies()


def test_folders_that_say_too_little() -> None:
    assert folders.of_files({}) is None
    assert folders.of_files({"vocab.json": b"{}"}) is None
    with pytest.raises(TokenizerError, match="langs must name source and target"):
        folders.of_files({k: v for k, v in files("fsmt").items() if "config" not in k})
    with pytest.raises(TokenizerError, match="source.spm: not a SentencePiece model"):
        folders.of_files({**files("marian"), "source.spm": b"nonsense"})
    with pytest.raises(TokenizerError, match="merges.txt: line 1 merges 'x' and 'y'"):
        folders.of_files({**files("vocab_merges"), "merges.txt": b"x y\n"})
    with pytest.raises(TokenizerError, match="tokenizer_config.json: not JSON"):
        folders.of_files({**files("bert"), "tokenizer_config.json": b"{"})


def test_marian_s_language_is_a_piece() -> None:
    found = folders.of_files(files("marian"))
    assert found is not None
    pieces = found.source.encode(">>fra<< Hello world!").split()
    assert pieces[0] == ">>fra<<" and pieces[0] in found.symbols
    assert pieces[1:] == found.source.encode("Hello world!").split()
    assert found.source.begins_word(">>fra<<")
