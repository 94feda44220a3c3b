"""Masks and noise: fairseq's, draw for draw where NumPy draws, and what holds of all of them."""

from __future__ import annotations

import dataclasses
import json

import noise_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.data.denoising import Denoising, permute_sentences
from seqjax.data.item_seed import item_seed
from seqjax.data.masking import Masking, replacement_weights
from seqjax.data.resampling import Resampling
from seqjax.data.span_masking import SpanMasking
from seqjax.data.vocabulary import Vocabulary
from seqjax.data.word_starts import WordStarts, word_starts

WORDS = WordStarts(begins=cases.begins(), alone=np.arange(cases.ENTRIES) < cases.SPECIAL)


@pytest.fixture(scope="module")
def recorded(goldens):
    return json.loads((goldens / "noise.json").read_text())


@pytest.fixture(scope="module")
def texts():
    return cases.sentences(ends=True)


def seeds(count=cases.SENTENCES):
    return [item_seed(cases.SEED, cases.EPOCH, i) for i in range(count)]


def masking(**case) -> Masking:
    options = {**case}
    whole = options.pop("mask_whole_words", False)
    weights = replacement_weights(cases.counts(), special=range(cases.SPECIAL),
                                  by_frequency=options.pop("freq_weighted_replacement", False))
    names = {"mask_prob": "prob", "mask_multiple_length": "multiple_length", "mask_stdev": "stdev"}
    return Masking(mask=cases.MASK, pad=1, weights=weights, words=WORDS if whole else None,
                   **{names.get(k, k): v for k, v in options.items()})


def denoising(**case) -> Denoising:
    options = {**case}
    words = WORDS if options.pop("words") else None
    return Denoising(entries=cases.ENTRIES, mask_id=cases.MASK, full_stop=cases.FIRST + 13,
                     words=words, **options)


def noised(noise: Denoising, texts) -> list[np.ndarray]:
    limits = noise.longest(np.array([len(t) for t in texts]))
    return [noise(t, s, limit=int(n)) for t, s, n in zip(
        texts, seeds(len(texts)), limits, strict=True)]


# ---- as fairseq ----


def test_seeds_are_fairseqs():
    assert item_seed(1, 1, 0) == 810752 and item_seed(1, 2, 3) == 497472


@pytest.mark.parametrize("case", cases.MASKING)
def test_fairseqs_masks_draw_for_draw(recorded, texts, case):
    wanted, mask = recorded["masking"][case], masking(**cases.MASKING[case])
    samples = [mask(text, seed) for text, seed in zip(texts, seeds(), strict=True)]
    for sample, other in zip(samples, wanted["first"], strict=False):
        np.testing.assert_array_equal(sample[0], other[0])
        np.testing.assert_array_equal(sample[1], other[1])
    assert cases.digest([x for pair in samples for x in pair]) == wanted["digest"]
    found = cases.masking_statistics(texts, samples)
    assert found == pytest.approx(wanted["statistics"])
    assert found["special_random"] == 0


@pytest.mark.parametrize("case", cases.DENOISING)
def test_fairseqs_noise_given_the_same_draws(recorded, texts, case):
    wanted = recorded["denoising"][case]
    sources = noised(denoising(**cases.DENOISING[case]), texts)
    for source, other in zip(sources, wanted["first"], strict=False):
        np.testing.assert_array_equal(source, other)
    assert cases.digest(sources) == wanted["digest"]


@pytest.mark.parametrize("case", cases.DENOISING)
def test_noise_is_as_often_as_fairseqs(recorded, texts, case):
    """Against fairseq with its own generator: means over 10,000 texts."""
    wanted = recorded["denoising"][case]["statistics"]
    found = cases.noise_statistics(texts, noised(denoising(**cases.DENOISING[case]), texts))
    for name, value in wanted.items():
        # Four standard deviations of the difference of two means of counts like these.
        spread = 4 * np.sqrt(2 * max(value, 0.05) / len(texts))
        assert found[name] == pytest.approx(value, abs=min(spread, 0.3)), name
    for never in ("frame_touched",):
        assert found[never] == wanted[never] == 0


@pytest.mark.parametrize("case", cases.SPANS)
def test_fairseqs_spans_draw_for_draw(recorded, texts, case):
    masking = SpanMasking(entries=cases.ENTRIES, **cases.SPANS[case])
    samples = [masking(text, seed) for text, seed in zip(texts, seeds(), strict=True)]
    assert cases.digest([x for pair in samples for x in pair]) == recorded["spans"][case]["digest"]
    sizes = masking.lengths(np.array([len(t) for t in texts]))
    for k, side in enumerate(sizes):
        assert side.tolist() == [len(sample[k]) for sample in samples]


@pytest.mark.parametrize("alpha", cases.ALPHAS)
def test_fairseqs_resampling_draw_for_draw(recorded, alpha):
    mixture = Resampling.of(cases.LANGUAGES, alpha=alpha)
    ids = mixture.draw(np.arange(sum(cases.LANGUAGES)), seed=cases.SEED, epoch=cases.EPOCH)
    assert len(ids) == mixture.epoch_size
    bounds = np.cumsum([0, *cases.LANGUAGES])
    parts = [ids[(ids >= a) & (ids < b)] - a for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    assert cases.digest(parts) == recorded["resampling"][str(alpha)]


def test_a_lone_insertion_is_never_a_mask():
    """fairseq's rule, for which the behaviour was measured: of n insertions the first
    ceil(n * mask_random) are random words."""
    noise = denoising(**cases.DENOISING["inserted"], )
    noise = dataclasses.replace(noise, insert=0.05)
    text = np.concatenate([[0], np.full(8, 50), [2]]).astype(np.int32)
    for number in range(300):
        source = noise(text, number, limit=11)
        inside = source[1:-1]
        assert len(source) == 11 and source[0] == 0 and source[-1] == 2
        assert (inside == 50).sum() >= 8
    every = np.concatenate([noise(text, n, limit=11)[1:-1] for n in range(300)])
    assert (every == cases.MASK).sum() <= 12  # the id itself is drawn now and then


# ---- properties ----

SENTENCES = st.lists(st.integers(cases.FIRST, cases.MASK - 1), min_size=1, max_size=60)
SHARES = st.floats(0.0, 1.0)


def framed(words: list[int]) -> np.ndarray:
    return np.array([0, *words, 2], np.int32)


@settings(max_examples=150, deadline=None)
@given(SENTENCES, st.floats(0.01, 0.99), SHARES, SHARES, st.integers(1, 4), st.booleans(),
       st.integers(0, 10**6))
def test_masking_keeps_what_it_does_not_choose(words, prob, kept, random, length, whole, seed):
    kept, random = kept / 2, random / 2
    mask = masking(mask_prob=prob, leave_unmasked_prob=kept, random_token_prob=random,
                   mask_multiple_length=length, mask_whole_words=whole)
    text = framed(words)
    source, target = mask(text, seed)
    again = mask(text, seed)
    np.testing.assert_array_equal(source, again[0])
    np.testing.assert_array_equal(target, again[1])
    chosen = target != 1
    assert source.shape == target.shape == text.shape
    np.testing.assert_array_equal(target[chosen], text[chosen])
    np.testing.assert_array_equal(source[~chosen], text[~chosen])
    changed = source != text
    assert (source[changed] >= cases.SPECIAL).all(), "no random word is a special symbol"
    if kept == random == 0.0:
        assert (source[chosen] == cases.MASK).all()
    number = len(WORDS.sizes(text)) if whole else len(text)
    groups = int(np.ceil(prob * number / length))
    longest = max(WORDS.sizes(text)) if whole else 1
    assert chosen.sum() <= groups * length * longest


@settings(max_examples=250, deadline=None)
@given(
    SENTENCES, st.sampled_from(["subword", "word", "span-poisson"]), st.sampled_from([-1, 0, 1]),
    st.floats(0.0, 1.0), SHARES, st.sampled_from([0.0, 0.1, 0.9]), SHARES, SHARES,
    st.floats(0.1, 6.0), st.booleans(), st.integers(0, 10**6))
def test_noise_stays_in_its_frame_and_its_bounds(
    words, mask_length, replace, mask, random, insert, rotate, permute, rate, whole, seed,
):
    if mask_length == "subword":
        replace = abs(replace)
    noise = denoising(mask=mask, mask_random=random, insert=insert, rotate=rotate,
                      permute_sentences=permute, mask_length=mask_length, replace_length=replace,
                      poisson_lambda=rate, words=whole)
    text = framed(words)
    limit = int(noise.longest(np.array([len(text)]))[0])
    source = noise(text, seed, limit=limit)
    np.testing.assert_array_equal(source, noise(text, seed, limit=limit))
    np.testing.assert_array_equal(text, framed(words))  # nothing is changed in place
    assert source[0] == 0 and source[-1] == 2
    assert (source[1:-1] >= 1).all() and (source < cases.ENTRIES).all()
    assert 2 <= len(source) <= limit
    if mask_length != "span-poisson" and insert == 0.0:
        begins = int(WORDS(text)[1:-1].sum()) if whole else len(words)
        begins -= int(whole and not cases.begins()[text[1]])
        if replace == -1 or mask == 0.0:
            assert len(source) == len(text)
        if not whole and replace == 0:
            assert len(source) == len(text) - int(np.ceil(np.float32(begins) * np.float32(mask)))
        if not whole and replace == 1:
            assert len(source) == len(text)


@settings(max_examples=100, deadline=None)
@given(SENTENCES, SHARES, st.integers(0, 10**6))
def test_permuted_sentences_are_the_same_sentences(words, share, seed):
    text = framed(words)
    found = permute_sentences(text, share, full_stop=cases.FIRST + 13,
                              rng=np.random.default_rng(seed))
    assert sorted(found.tolist()) == sorted(text.tolist())
    assert found[0] == 0 and found[-1] == 2


@settings(max_examples=100, deadline=None)
@given(SENTENCES, st.floats(0.01, 0.99), st.floats(1.0, 10.0), st.integers(0, 10**6))
def test_spans_fit_into_their_gaps(words, density, length, seed):
    masking, text = SpanMasking(entries=1000, noise_density=density,
                                mean_noise_span_length=length), framed(words)
    source, target = masking(text, seed)
    # Every gap of one side holds what the other has behind the same id.
    spans: dict[int, list[int]] = {}
    place = None
    for token in target.tolist():
        if token >= 900:
            place = token
        else:
            spans.setdefault(place if place is not None else -1, []).append(token)
    whole, gap = [], 999
    for token in source.tolist():
        if token >= 900:
            assert token == gap
            whole += spans[token]
            gap -= 1
        else:
            whole.append(token)
    assert whole == text.tolist()


# ---- words and values ----


@pytest.mark.parametrize(("kind", "pieces", "wanted"), [
    ("sentencepiece", ["\u2581a", "b", "\u2581c"], [True, False, True]),
    ("bert", ["a", "##b", "c"], [True, False, True]),
    ("subword_nmt", ["a@@", "b", "c"], [True, False, True]),
])
def test_words_are_told_by_their_pieces(kind, pieces, wanted):
    vocabulary = Vocabulary([*pieces, "madeupword0000"])
    found = word_starts(vocabulary, kind)(np.array([0, 4, 5, 6, 7, 2]))
    assert found.tolist() == [True, *wanted, True, True]


def test_a_special_symbol_ends_a_word_that_was_begun():
    vocabulary = Vocabulary(["a@@", "b"])
    assert word_starts(vocabulary, "subword_nmt")(np.array([0, 4, 2, 4, 5, 2])).tolist() == [
        True, True, True, True, False, True]


def test_byte_level_pieces_are_asked_of_their_tokenizer():
    texts = {"464": "The", "1": " cat", "2": "s"}
    vocabulary = Vocabulary([*texts, "<mask>"])
    starts = word_starts(vocabulary, "gpt2", decode=lambda piece: texts[piece])
    assert starts(np.array([0, 4, 5, 6, 7, 2])).tolist() == [
        True, False, True, False, True, True]
    with pytest.raises(ValueError, match="not of 'gpt2' without a tokenizer"):
        word_starts(vocabulary, "gpt2")
    with pytest.raises(ValueError, match="not of 'characters'"):
        word_starts(vocabulary, "characters")


@pytest.mark.parametrize(("make", "message"), [
    (lambda: masking(mask_prob=0.0), "mask_prob: 0.0"),
    (lambda: masking(leave_unmasked_prob=0.7, random_token_prob=0.5), "together"),
    (lambda: masking(mask_multiple_length=0), "mask_multiple_length: 0"),
    (lambda: masking(mask_stdev=-1.0), "mask_stdev: -1.0"),
    (lambda: denoising(**{**cases.DENOISING["default"], "mask": 1.5}), "mask: 1.5"),
    (lambda: denoising(**{**cases.DENOISING["default"], "replace_length": 2}),
     "replace_length: 2"),
    (lambda: denoising(**{**cases.DENOISING["default"], "replace_length": -1}),
     "replace_length: -1 is for words"),
    (lambda: denoising(**{**cases.DENOISING["default"], "poisson_lambda": 0.0}),
     "poisson_lambda: 0.0"),
    (lambda: denoising(**{**cases.DENOISING["default"], "permute_sentences": 2.0}),
     "permute_sentences: 2.0"),
    (lambda: SpanMasking(entries=9, noise_density=0.0), "noise_density: 0.0"),
    (lambda: SpanMasking(entries=9, mean_noise_span_length=0.5), "mean_noise_span_length: 0.5"),
    (lambda: masking()(np.array([0, cases.MASK, 2]), 1), "holds <mask>"),
    (lambda: replacement_weights([1, 1, 1, 1, 0], special=range(4), by_frequency=True),
     "counts no words"),
])
def test_values_that_make_no_sense_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
