"""Tokenizers: fairseq's pieces, round trips, states, training, errors."""

from __future__ import annotations

import io
import json
import pickle
import re

import pytest
import sentencepiece
import tokenizers as library

from seqjax.data import tokenizers
from seqjax.data.tokenizers import TokenizerError, from_state
from seqjax.data.tokenizers.characters import byte_symbols

LINES = [
    "the cat sat on the mat", "a dog ran to the cat", "the dog and the cat ran",
    "Grüße an den Hund", "der Hund lief zur Katze", "die Katze saß auf der Matte",
] * 20


def make(kind: str) -> tokenizers.Tokenizer:
    if kind == "sentencepiece":
        return tokenizers.train_sentencepiece(LINES, vocab_size=40)
    if kind == "subword_nmt":
        return tokenizers.train_subword_nmt(LINES, vocab_size=70)
    if kind == "moses":
        return tokenizers.MosesTokenizer(lang="de", dash_splits=False)
    if kind == "unicode":
        return tokenizers.UnicodeTokenizer(form="nfc")
    if kind == "chain":
        return tokenizers.ChainTokenizer(make("moses"), make("subword_nmt"))
    if kind == "marian":
        return tokenizers.MarianTokenizer(**make("sentencepiece").options())
    if kind == "byte_bpe":
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
            sentence_iterator=map(byte_symbols, LINES), model_writer=model, vocab_size=40,
            minloglevel=2,
            normalization_rule_name="identity")  # else ü's two bytes become other letters
        return tokenizers.ByteBPETokenizer(model=model.getvalue())
    if kind == "fsmt":
        codes = make("subword_nmt").to_state()["codes"]
        assert isinstance(codes, bytes)
        return tokenizers.FSMTTokenizer(merges=codes, lang="de")
    if kind in ("gpt2", "hf_byte_bpe", "hf", "bert"):
        return make_by_library(kind)
    return tokenizers.TOKENIZERS[kind]()


def make_by_library(kind: str) -> tokenizers.Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == "bert":
        pieces = library.BertWordPieceTokenizer(strip_accents=False, lowercase=False)
        pieces.train_from_iterator(LINES, vocab_size=80)
        vocab = sorted(pieces.get_vocab(), key=pieces.get_vocab().__getitem__)
        return tokenizers.BertTokenizer(vocab="\n".join(vocab).encode(), cased=True)
    made = library.ByteLevelBPETokenizer()
    made.train_from_iterator(LINES, vocab_size=300, special_tokens=special)
    state = json.loads(made.to_str())
    if kind == "hf":
        return tokenizers.HuggingFaceTokenizer(tokenizer_json=made.to_str().encode())
    vocab = json.dumps(state["model"]["vocab"]).encode()
    merges = "".join(" ".join(merge) + "\n" for merge in state["model"]["merges"]).encode()
    if kind == "gpt2":
        return tokenizers.GPT2Tokenizer(encoder_json=vocab, vocab_bpe=b"#version: 0.2\n" + merges)
    return tokenizers.HFByteBPETokenizer(vocab_json=vocab, merges=merges)


@pytest.mark.parametrize("kind", [*tokenizers.TOKENIZERS, "chain"])
def test_round_trips(kind: str) -> None:
    tokenizer = make(kind)
    for text in LINES[:6]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert " ".join(tokenizer.encode(text).split()) == tokenizer.encode(text)
    assert tokenizer.encode("") == ""
    state = tokenizer.to_state()
    assert state["kind"] == tokenizer.kind
    assert all(isinstance(value, (str, bytes)) for value in state.values())
    for again in (from_state(state), pickle.loads(pickle.dumps(tokenizer))):
        assert again == tokenizer
        assert again.encode("Hund und Katze") == tokenizer.encode("Hund und Katze")


def test_characters() -> None:
    tokenizer = tokenizers.CharactersTokenizer()
    assert tokenizer.encode("ab  c\td") == "a b \u2581 \u2581 c \u2581 d"
    assert tokenizer.decode("a b \u2581 c") == "ab c"


def test_bytes_are_fairseqs_symbols() -> None:
    tokenizer = tokenizers.BytesTokenizer()
    # ü is c3 bc: printable in Latin-1; ß is c3 9f, and 9f is not; nor is ad.
    assert tokenizer.encode("ü ß\u00ed") == "\u00c3 \u00bc \u2581 \u00c3 \u019f \u00c3 \u01ad"
    assert tokenizer.encode("a \t\u00a0b") == "a \u2581 b"
    assert tokenizer.decode("\u00c3 \u00bc <unk> a") == "üa"
    assert tokenizer.decode("a \u00c3 b") == "ab"


def test_moses() -> None:
    tokenizer = tokenizers.MosesTokenizer(lang="en")
    pieces = tokenizer.encode("Don't say \"re-use\", Mr. Smith!")
    assert pieces == "Don &apos;t say &quot; re @-@ use &quot; , Mr. Smith !"
    assert tokenizer.decode(pieces) == "Don't say \"re-use\", Mr. Smith!"
    plain = tokenizers.MosesTokenizer(lang="en", dash_splits=False, escape=False)
    assert plain.encode('"re-use"') == '" re-use "'
    french = tokenizers.MosesTokenizer(lang="fr")
    assert french.encode("l'eau") == "l&apos; eau"


def test_chain_is_fairseqs_tokenizer_and_bpe() -> None:
    moses = tokenizers.MosesTokenizer(lang="en")
    bpe = tokenizers.SubwordNMTTokenizer(codes=b"#version: 0.2\nt h\nth e</w>\n")
    both = tokenizers.chain([moses, bpe])
    assert both.encode("the thaw!") == "the th@@ a@@ w !"
    assert both.decode("the th@@ a@@ w !") == "the thaw!"
    assert tokenizers.chain([bpe]) is bpe


def test_subword_nmt_is_the_corpus_bpe(goldens) -> None:
    folder = goldens / "preprocess"
    bpe = tokenizers.SubwordNMTTokenizer(codes=(folder / "bpecodes").read_bytes())
    line = (folder / "test.en").read_text(encoding="utf-8").split("\n")[0]
    assert bpe.encode(line) == (
        "I was al@@ so b@@ l@@ am@@ el@@ ess with him . I k@@ e@@ p@@ t m@@ y@@ s@@ el@@ f"
        " from my in@@ i@@ q@@ u@@ it@@ y ."
    )
    assert bpe.decode(bpe.encode(line)) == line


def test_training_is_deterministic() -> None:
    for model_type in ("unigram", "bpe"):
        first, second = (
            tokenizers.train_sentencepiece(LINES, vocab_size=40, model_type=model_type)
            for _ in range(2)
        )
        assert first == second
    assert tokenizers.train_subword_nmt(LINES, vocab_size=70) == tokenizers.train_subword_nmt(
        iter(LINES), vocab_size=70
    )


def test_vocabulary_size_is_the_number_of_pieces() -> None:
    sentencepiece = tokenizers.train_sentencepiece(LINES, vocab_size=38)
    pieces = {p for line in LINES for p in sentencepiece.encode(line).split()}
    assert len(pieces) <= 38 - 3
    bpe = tokenizers.train_subword_nmt(LINES, vocab_size=60)
    assert len({p for line in LINES for p in bpe.encode(line).split()}) <= 60


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tokenizers.train_sentencepiece(LINES, vocab_size=5000),
         r"--vocab-size 5000 is too large.*Use --vocab-size \d+ or less"),
        (lambda: tokenizers.train_sentencepiece(LINES, vocab_size=7),
         r"--vocab-size 7 is too small.*\(it has \d+ different characters\)"),
        (lambda: tokenizers.train_sentencepiece([], vocab_size=7), "no text to train on"),
        (lambda: tokenizers.train_subword_nmt([], vocab_size=70), "no text to learn from"),
        (lambda: tokenizers.train_subword_nmt(LINES, vocab_size=9), "9 leaves no merges"),
        (lambda: tokenizers.train_subword_nmt(["abc def", "ghi"], vocab_size=8000),
         "no two pieces follow each other more than once.*too little text"),
        (lambda: tokenizers.SubwordNMTTokenizer(codes=b"#version: 0.2\na b\nabc\n"),
         r"line 3 is 'abc'"),
        (lambda: tokenizers.SubwordNMTTokenizer(codes=b"\xff"), "not UTF-8"),
        (lambda: tokenizers.SentencePieceTokenizer(model=b"nonsense"), "not a SentencePiece model"),
        (lambda: from_state({"kind": "wordpiece"}), "'wordpiece' is unknown. Known: sentencepiece"),
        (lambda: from_state({"kind": "bytes", "x": ""}), "'bytes'.*no arguments"),
        (lambda: tokenizers.MosesTokenizer(lang="en", escape="no"), "escape must be true or false"),
        (lambda: tokenizers.ChainTokenizer(), "at least one"),
    ],
)
def test_errors_say_what_to_do(call, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        call()


def test_the_size_that_is_suggested_works() -> None:
    with pytest.raises(TokenizerError) as caught:
        tokenizers.train_sentencepiece(LINES, vocab_size=5000)
    size = int(str(caught.value).split("Use --vocab-size ")[1].split()[0])
    tokenizers.train_sentencepiece(LINES, vocab_size=size)


def test_fewer_pieces_than_asked_for_are_said() -> None:
    said: list[str] = []
    bpe = tokenizers.train_subword_nmt(LINES, vocab_size=8000, say=said.append)
    merges = bpe.to_state()["codes"].decode().count("\n") - 1  # type: ignore[union-attr]
    (line,) = said
    (pieces,) = re.findall(r"BPE found (\d+) pieces, not the 8,000", line)
    words = {word for text in LINES for word in text.split()}
    characters = {c for w in words for c in w[:-1]}, {w[-1] for w in words}
    assert int(pieces) == merges + sum(map(len, characters))
    said.clear()
    tokenizers.train_subword_nmt(LINES, vocab_size=int(pieces), say=said.append)
    assert not said


@pytest.mark.parametrize("space", ["\t", "\u00a0", "\u2003", "\u3000", "\x0b", "\x1c", "\u0085"])
def test_bpe_takes_all_white_space_for_spaces(space: str) -> None:
    """subword-nmt alone would make one word of the two, with a bare `@@` between."""
    tokenizer = make("subword_nmt")
    expected = tokenizer.encode("the xcat")
    assert tokenizer.encode(f"the{space}xcat") == expected
    assert tokenizer.encode(f"{space}the {space}xcat{space}").split() == expected.split()
    learned = tokenizers.train_subword_nmt(
        [line.replace(" ", space) for line in LINES], vocab_size=70)
    assert learned == tokenizer


def test_unicode_forms() -> None:
    decomposed = "Gru\u0308ße"
    chain = tokenizers.ChainTokenizer(
        tokenizers.UnicodeTokenizer(form="nfc"), make("moses"), make("subword_nmt"))
    plain = tokenizers.ChainTokenizer(*chain.parts[1:])
    assert chain.encode(decomposed) == plain.encode("Grüße") != plain.encode(decomposed)
    assert from_state(chain.to_state()) == chain
    assert tokenizers.UnicodeTokenizer(form="nfd").encode("Grüße") == decomposed
    with pytest.raises(TokenizerError, match="nfc, nfkc, nfd, nfkd, not 'utf8'"):
        tokenizers.UnicodeTokenizer(form="utf8")
