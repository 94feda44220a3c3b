"""Tokens around words: one sentence, sides of a corpus, what decoding begins with."""

from __future__ import annotations

import numpy as np
import pytest

from seqjax.config import ConfigError
from seqjax.data.epoch_plan import Shape
from seqjax.data.frames import Frame
from seqjax.data.pairs import PairDataset
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.teacher_forcing import previous_tokens
from seqjax.tasks.forms import Forms

MBART = Frame(eos=2, after=(2, 90))
M2M = Frame(eos=2, before=(91,), after=(2,))
REPLACED = Frame(eos=2, before=(0,), after=(92,))
PLAIN = Frame.plain(2)


@pytest.mark.parametrize("frame, wanted", [
    (PLAIN, [5, 6, 2]), (MBART, [5, 6, 2, 90]), (M2M, [91, 5, 6, 2]), (REPLACED, [0, 5, 6, 92])])
def test_words_get_their_tokens_once(frame, wanted):
    for given in ([5, 6], [5, 6, 2], wanted):
        assert frame.put(given).tolist() == wanted
        assert frame.words(given).tolist() == [5, 6]
    assert frame.extra == len(wanted) - 3
    assert frame.cut(frame.put([5, 6, 7, 8, 9]), len(wanted)).tolist() == wanted
    assert frame.is_plain == (frame is PLAIN)


def sentences(seed, count=7):
    rng = np.random.default_rng(seed)
    return [np.append(rng.integers(4, 20, n), 2) for n in rng.integers(1, 6, count)]


@pytest.mark.parametrize("packed", [False, True])
def test_sides_of_several_corpora_have_frames_of_their_own(packed):
    first = PairDataset(sentences(0), sentences(1), frames=([M2M], [MBART]))
    second = PairDataset(sentences(2, 4), sentences(3, 4), frames=([PLAIN], [REPLACED]))
    both = PairDataset.joined([first, second], starts=[90, 93])
    assert len(both) == 11 and both.corpus_bounds == (7, 11)
    wanted = [(M2M.put(s), MBART.put(t)) for s, t in zip(sentences(0), sentences(1), strict=True)]
    wanted += [(PLAIN.put(s), REPLACED.put(t))
               for s, t in zip(sentences(2, 4), sentences(3, 4), strict=True)]
    for i, (source, target) in enumerate(wanted):
        assert both.lengths.source[i] == len(source) and both.lengths.target[i] == len(target)
        found = both.sentence(i)
        assert found[0].tolist() == source.tolist() and found[1].tolist() == target.tolist()
        assert both.corpus_of(i) == (i > 6)
    ids, rows = np.array([8, 0, 3, 10]), np.array([0, 0, 1, 2] if packed else [0, 1, 2, 3])
    batch = both.materialise(ids, rows, Shape(4, 24, 24), packed=packed)
    starts = np.array([93, 90, 90, 93])
    segments = batch.get("target_segments")
    found = np.asarray(previous_tokens(batch["target"], segments, pad=1,
                                       start=batch["target_start"]))
    for row in range(4):
        mine = np.flatnonzero(rows == row)
        parts = [[starts[k], *wanted[ids[k]][1][:-1]] for k in mine]
        flat = [token for part in parts for token in part]
        assert found[row, :len(flat)].tolist() == flat
        assert (found[row, len(flat):] == 1).all()


def test_cut_sources_keep_what_stands_around_their_words():
    long = [np.array([5, 6, 7, 8, 9, 2]), np.array([5, 2])]
    found = PairDataset(long, long, truncate_source=4, frames=([MBART], [PLAIN]))
    assert [found.sentence(i)[0].tolist() for i in range(2)] == [[5, 6, 2, 90], [5, 2, 90]]
    assert found.lengths.source.tolist() == [4, 3]
    with pytest.raises(ValueError, match="are 3"):
        PairDataset(long, long, truncate_source=2, frames=([MBART], [PLAIN]))


def test_a_sentence_without_eos_is_refused_where_its_eos_is_replaced():
    broken = PairDataset([[5, 6], [5, 2]], [[5, 2], [6, 2]], frames=([MBART], [PLAIN]))
    assert broken.sentence(1)[0].tolist() == [5, 2, 90]
    with pytest.raises(ValueError, match="does not end in eos"):
        broken.sentence(0)


def vocabulary():
    return Vocabulary(["hello", "world", "en_XX", "ro_RO"])


def test_templates_are_symbols_of_the_vocabulary():
    vocab, languages = vocabulary(), {"source": "en_XX", "target": "ro_RO"}
    forms = Forms(source="<s> ... </s> {source}", target="{target} ... </s>", start="<pad>",
                  first="{target} hello")
    assert forms.frame("source", vocab, languages) == Frame(eos=2, before=(0,), after=(2, 6))
    assert forms.frame("target", vocab, languages) == Frame(eos=2, before=(7,), after=(2,))
    made = forms.target_form(vocab, languages)
    assert (made.start, made.first, made.eos) == (1, (7, 4), 2)


@pytest.mark.parametrize("changed, message", [
    (dict(source="</s>"), "source_form: '</s>': write the words once"),
    (dict(source="... ... </s>"), "write the words once"),
    (dict(source="<s> ..."), "something must end a sentence"),
    (dict(source="... [en]"), "source_form: the dictionary has no '\\[en\\]'"),
    (dict(start="<bos>"), "decoder_start: the dictionary has no '<bos>'"),
    (dict(first="{source}"), "names no languages"),
])
def test_templates_that_cannot_be_are_named(changed, message):
    forms, languages = Forms(**changed), {"source": "", "target": ""}
    with pytest.raises(ConfigError, match=message):
        forms.frame("source", vocabulary(), languages)
        forms.target_form(vocabulary(), languages)
