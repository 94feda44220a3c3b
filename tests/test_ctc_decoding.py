"""CTC decoding: greedy, and prefix beam search against enumeration of all paths."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from seqjax.config import ConfigError
from seqjax.generation.ctc.alignment import align
from seqjax.generation.ctc.decoder import CTCDecoder
from seqjax.generation.ctc.frames import frames
from seqjax.generation.ctc.greedy import collapse
from seqjax.generation.ctc.hypothesis import word_times
from seqjax.generation.ctc.ngram import load_ngram
from seqjax.generation.ctc.options import CTCOptions
from tests.ctc_cases import (
    TRIGRAMS,
    PlainNGram,
    label_sequences,
    log_softmax,
    segmentations,
    write,
)

SYMBOLS = ["<s>", "a", "b", "|"]
EXACT = {"token_min_logp": -math.inf, "beam_threshold": 1e9}
WORDS = {(1, 2): ["ab"], (2, 1): ["ba"], (2,): ["b"]}


def decoder(**options: object) -> CTCDecoder:
    return CTCDecoder(SYMBOLS, blank=0, silence=3, options=CTCOptions(**options))


def draw(*, rows: int, longest: int, seed: int, peaked: float = 2.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [log_softmax(rng.normal(size=(rng.integers(1, longest + 1), 4)) * peaked)
            for _ in range(rows)]


def ranked(found: dict[tuple, float], n: int) -> list[tuple[tuple, float]]:
    return sorted(found.items(), key=lambda item: -item[1])[:n]


def same(hypotheses: list, expected: list[tuple[tuple, float]], *, words: bool = False) -> None:
    assert len(hypotheses) == len(expected)
    for hypothesis, (_, score) in zip(hypotheses, expected, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=2e-4)
    said = [h.words if words else tuple(h.tokens.tolist()) for h in hypotheses]
    assert said[0] == expected[0][0] or expected[0][1] - expected[1][1] < 1e-3


def test_greedy_takes_out_repetitions_and_blanks() -> None:
    assert collapse(np.array([0, 1, 1, 0, 1, 2, 2, 3]), blank=0).tolist() == [1, 1, 2, 3]
    rows = draw(rows=3, longest=9, seed=0)
    found = decoder().decode([*rows, np.zeros((0, 4), np.float32)])
    for row, (hypothesis,) in zip(rows, found, strict=False):
        assert hypothesis.tokens.tolist() == collapse(row.argmax(1), blank=0).tolist()
        assert hypothesis.score == pytest.approx(float(row.max(1).sum()), abs=1e-5)
    assert found[-1][0].tokens.tolist() == []


@pytest.mark.parametrize("log_add", [True, False])
def test_prefix_search_is_the_search_over_all_paths(log_add: bool) -> None:
    rows = draw(rows=20, longest=6, seed=1)
    search = decoder(beam=300, nbest=12, log_add=log_add, **EXACT)
    for row, hypotheses in zip(rows, search.decode(rows), strict=True):
        every = label_sequences(row, blank=0, best=not log_add)
        same(hypotheses, ranked(every, 12)[:len(hypotheses)])


def test_results_do_not_depend_on_batching() -> None:
    rows = draw(rows=40, longest=60, seed=2)
    search = decoder(beam=8, nbest=3)
    together = search.decode(rows)
    alone = [search.decode([row])[0] for row in rows[:6]]
    for one, other in zip(together, alone, strict=False):
        assert [h.tokens.tolist() for h in one] == [h.tokens.tolist() for h in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-4)


def test_runs_of_blank_frames_change_nothing() -> None:
    """Frames of blank alone are one addition; with the threshold off they are frames as others."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(6):
        says = rng.random(50) < 0.3
        x = rng.normal(size=(50, 4))
        x[:, 0] = np.where(says, -2.0, 30.0)
        rows.append(log_softmax(x))
    skipped, plain = decoder(beam=6, token_min_logp=-20.0), decoder(beam=6, **EXACT)
    made = frames(rows, blank=0, token_min_logp=-20.0)
    assert made.tokens.shape[1] < 35
    for row, one, other in zip(rows, skipped.decode(rows), plain.decode(rows), strict=True):
        assert one[0].tokens.tolist() == other[0].tokens.tolist()
        assert one[0].score == pytest.approx(other[0].score, abs=1e-3), row


def test_a_lexicon_and_an_ngram_against_enumeration(tmp_path: Path) -> None:
    """Words of a lexicon, a boundary between them, homophones among them."""
    lm = write(tmp_path, "lm.arpa", TRIGRAMS)
    lexicon = write(tmp_path, "lexicon.txt", "ab a b |\nba b a |\nb b |\nbee b |\n")
    search = decoder(beam=300, nbest=4, lm=lm, lexicon=lexicon, lm_weight=1.5, word_score=-0.4,
                     sil_weight=-0.2, **EXACT)
    plain = PlainNGram(TRIGRAMS)
    spelled = {(1, 2, 3): ["ab"], (2, 1, 3): ["ba"], (2, 3): ["b", "bee"], (3,): [""]}
    rows = draw(rows=12, longest=6, seed=4)
    for row, hypotheses in zip(rows, search.decode(rows), strict=True):
        every: dict[tuple[str, ...], float] = {}
        for labels, score in label_sequences(row, blank=0).items():
            for ended in {labels, (*labels, 3)}:  # the last word may end with the utterance
                if ended != labels and (not labels or labels[-1] == 3):
                    continue
                for words in segmentations(ended, spelled):
                    said = tuple(word for word in words if word)
                    total = (score + 1.5 * plain.sentence(said) - 0.4 * len(said)
                             - 0.2 * labels.count(3))
                    # A last word without its boundary is the best of its homophones.
                    key = (*labels, *said[:-1 if ended != labels else None])
                    every[key] = max(total, every.get(key, -math.inf))
        best = ranked(every, 4)[:len(hypotheses)]
        for hypothesis, (_, score) in zip(hypotheses, best, strict=True):
            assert hypothesis.score == pytest.approx(score, abs=2e-4)
        found = (*hypotheses[0].tokens.tolist(), *hypotheses[0].words)
        assert found[:len(best[0][0])] == best[0][0]


def test_a_lexicon_without_a_token_between_words(tmp_path: Path) -> None:
    """Subwords: a word ends where its spelling does, and a longer one may go on."""
    lexicon = write(tmp_path, "lexicon.txt", "one a\ntwo a b\nthree b\nfour | |\n")
    search = CTCDecoder(SYMBOLS, blank=0, silence=None, options=CTCOptions(
        beam=400, nbest=5, lexicon=lexicon, word_score=0.3, **EXACT))
    spelled = {(1,): ["one"], (1, 2): ["two"], (2,): ["three"], (3, 3): ["four"]}
    rows = draw(rows=10, longest=5, seed=5)
    for row, hypotheses in zip(rows, search.decode(rows), strict=True):
        every = {}
        for labels, score in label_sequences(row, blank=0).items():
            for words in segmentations(labels, spelled):
                every[words] = max(score + 0.3 * len(words), every.get(words, -math.inf))
        same(hypotheses, ranked(every, 5)[:len(hypotheses)], words=True)


def test_a_model_of_words_spells_its_own_and_knows_unknown_ones(tmp_path: Path) -> None:
    lm = write(tmp_path, "lm.arpa", TRIGRAMS)
    search = decoder(beam=400, nbest=4, lm=lm, lm_weight=1.0, word_score=0.0, unk_weight=-1.0,
                     **EXACT)
    plain = PlainNGram(TRIGRAMS)
    rows = draw(rows=12, longest=5, seed=6)
    for row, hypotheses in zip(rows, search.decode(rows), strict=True):
        every = {}
        for labels, score in label_sequences(row, blank=0).items():
            said = "".join(SYMBOLS[i].replace("|", " ") for i in labels).split()
            unknown = sum(word not in ("ab", "ba", "b") for word in said)
            every[labels] = score + plain.sentence(said) - unknown
        same(hypotheses, ranked(every, 4)[:len(hypotheses)])
        best = "".join(SYMBOLS[i].replace("|", " ") for i in hypotheses[0].tokens).split()
        assert list(hypotheses[0].words) == best  # unknown words keep their letters


def test_a_model_of_tokens(tmp_path: Path) -> None:
    text = TRIGRAMS.replace("ab", "a").replace("ba", "|").replace("bb", "b")
    lm = write(tmp_path, "units.arpa", text)
    search = decoder(beam=300, nbest=3, lm=lm, unit_lm=True, lm_weight=0.7, **EXACT)
    plain = PlainNGram(text)
    rows = draw(rows=8, longest=5, seed=7)
    for row, hypotheses in zip(rows, search.decode(rows), strict=True):
        every = {labels: score + 0.7 * plain.sentence([SYMBOLS[i] for i in labels])
                 for labels, score in label_sequences(row, blank=0).items()}
        same(hypotheses, ranked(every, 3)[:len(hypotheses)])


def test_an_arpa_file_scores_as_backing_off_does(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(TRIGRAMS)
    model, plain = load_ngram(path), PlainNGram(TRIGRAMS)
    rng = np.random.default_rng(8)
    for _ in range(30):
        words = rng.choice(["ab", "ba", "b", "zz"], rng.integers(0, 6)).tolist()
        assert model.score(words) == pytest.approx(plain.sentence(words), abs=1e-5)
        assert model.score(words, eos=False) == pytest.approx(
            plain.sentence(words, eos=False), abs=1e-5)


@pytest.mark.parametrize(("change", "message"), [
    (("ngram 2=6", "ngram 2=7"), "lm.arpa:22: 6 2-grams end here, but .data. counts 7"),
    (("-0.5\tab ba\t-0.35", "-0.5\tab"), "lm.arpa:17: a 2-gram is a log10 probability, 2 word"),
    (("-1.2\tb", "-x\tb"), "lm.arpa:12: no number"),
    (("-1.2\tb", "1.2\tb"), "lm.arpa:12: 1.2 is no log10"),
    (("\\end\\", ""), "lm.arpa:.*ends inside its 3-grams"),
    (("\\data\\", ""), "no .data. line"),
    (("ba ab", "ba zz"), "'zz' stands in an n-gram, but is no unigram"),
    (("ba ab", "ab ba"), "lm.arpa:22: 'ab ba' stands twice among the 2-grams"),
])
def test_what_is_wrong_with_an_arpa_file_is_said(
    tmp_path: Path, change: tuple[str, str], message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_ngram(write(tmp_path, "lm.arpa", TRIGRAMS.replace(*change, 1)))


@pytest.mark.parametrize(("options", "message"), [
    ({"nbest": 2}, "nbest=2 has to lie between 1 and beam=1"),
    ({"beam": 4, "lm": "none.arpa"}, "none.arpa: there is no such language model"),
    ({"beam": 4, "lexicon": "none.txt"}, "none.txt: No such file"),
    ({"beam": 4, "unit_lm": True}, "unit_lm=True says what `lm` is of"),
    ({"beam": 4, "token_min_logp": 0.0}, "token_min_logp"),
    ({"beam": 4, "lexicon": "BAD"}, r"BAD:2: the model has no token 'x'"),
    ({"beam": 4, "lm": "UPPER"}, "no word of the language model can be spelled"),
])
def test_wrong_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "BAD", "ab a b |\naxe a x |\n")
    write(tmp_path, "UPPER", TRIGRAMS.upper().replace("NGRAM", "ngram").replace("GRAMS", "grams")
          .replace("DATA", "data").replace("END", "end"))
    with pytest.raises(ConfigError, match=message):
        decoder(**options)


def test_times_of_words() -> None:
    best = [0, 1, 1, 0, 2, 3, 3, 0, 2, 0]
    log_probs = np.full((10, 4), -8.0, np.float32)
    log_probs[np.arange(10), best] = -0.01
    tokens = [1, 2, 3, 2]
    spans = align(log_probs, tokens, blank=0)
    assert spans.tolist() == [[1, 3], [4, 5], [5, 7], [8, 9]]
    times = word_times(tokens, spans, silence=3, symbols=SYMBOLS)
    assert [(time.word, time.start, time.end) for time in times] == [("ab", 1, 5), ("b", 8, 9)]
    with pytest.raises(ValueError, match="3 tokens need 5 frames, but there are 4"):
        align(log_probs[:4], [1, 1, 1], blank=0)


def test_rows_of_another_vocabulary_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match=r"utterance 0: .* expected \[frames, 4\]"):
        decoder().decode([np.zeros((3, 5), np.float32)])
    with pytest.raises(ValueError, match="NaN"):
        decoder().decode([np.full((3, 4), np.nan, np.float32)])


def test_words_that_only_one_side_knows_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    lm = write(tmp_path, "lm.arpa", TRIGRAMS.replace("ba", "b\u00e4"))
    decoder(beam=4, lm=lm)
    assert "1 of its 3 words, 'b\u00e4' the first, have letters that the" in caplog.text
    caplog.clear()
    lexicon = write(tmp_path, "lexicon.txt", "ab a b |\nabba a b b a |\n")
    decoder(beam=4, lm=lm, lexicon=lexicon)
    assert "knows 'abba' not and 0 more of 2" in caplog.text
