"""Every option of a search changes something wherever it is taken, or is refused."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pytest
import tiny_run
from tiny_checkpoint import write_checkpoint, write_language_model
from toy_models import ToyLanguageModel, ToyModel

from seqjax import generate, interactive, tasks
from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation import options
from seqjax.generation.decoder import Decoded, Decoder
from seqjax.generation.hypothesis import Hypothesis
from seqjax.hub import loading

FIELDS = tuple(field.name for field in dataclasses.fields(GenerationConfig))
BASE = dict(beam=4, nbest=4, max_len_b=6)
SAMPLING = dict(sampling=True)
LATE = dict(rules="transformers", lenpen=3.0, max_len_b=12,
            suppress_tokens=(0, 1, 4, 5, 7, 8, 9, 10))
"""Outputs end early, and long ones are worth more."""
CHANGES = {
    "beam": ({"nbest": 1}, {"beam": 1, "nbest": 1}),
    "nbest": ({}, {"nbest": 2}),
    "max_len_a": ({}, {"max_len_a": 2.0}),
    "max_len_b": ({}, {"max_len_b": 9}),
    "min_len": ({}, {"min_len": 5}),
    "lenpen": ({}, {"lenpen": 0.5}),
    "unkpen": ({}, {"unkpen": -3.0}),
    "temperature": ({}, {"temperature": 2.0}),
    "lm_weight": ({}, {"lm_weight": 0.7}),
    "unnormalized": ({}, {"unnormalized": True}),
    "match_source_len": ({}, {"match_source_len": True}),
    "no_repeat_ngram_size": ({}, {"no_repeat_ngram_size": 1}),
    "prefix_size": ({"prefix_size": 1}, {"prefix_size": 2}),
    "bos_token": ({}, {"bos_token": 7}),
    "first_tokens": ({}, {"first_tokens": (7, 8)}),
    "sampling": ({}, SAMPLING),
    "sampling_topk": (SAMPLING, {**SAMPLING, "sampling_topk": 2}),
    "sampling_topp": (SAMPLING, {**SAMPLING, "sampling_topp": 0.2}),
    "sampling_minp": (SAMPLING, {**SAMPLING, "sampling_minp": 0.6}),
    "diverse_beam_groups": ({}, {"diverse_beam_groups": 2}),
    "diverse_beam_strength": ({"diverse_beam_groups": 2},
                              {"diverse_beam_groups": 2, "diverse_beam_strength": 5.0}),
    "diversity_rate": ({}, {"diversity_rate": 2.0}),
    "padded_source_len": ({"max_len_a": 0.5, "max_len_b": 3},
                          {"max_len_a": 0.5, "max_len_b": 3, "padded_source_len": True}),
    "seed": (SAMPLING, {**SAMPLING, "seed": 5}),
    "max_tokens": ({}, {"max_tokens": 16}),
    "batch_size": ({}, {"batch_size": 1}),
    "rules": ({}, {"rules": "transformers"}),
    "early_stopping": (
        {**LATE, "early_stopping": "true"}, {**LATE, "early_stopping": "never"}),
    "force_eos": ({"rules": "transformers"}, {"rules": "transformers", "force_eos": False}),
    "suppress_tokens": ({}, {"suppress_tokens": (5, 6)}),
    "begin_suppress_tokens": ({}, {"begin_suppress_tokens": tuple(range(4, 9))}),
    "bad_words_ids": ({}, {"bad_words_ids": tuple(
        (a, b) for a in range(4, 10) for b in range(4, 10))}),
    "repetition_penalty": ({}, {"repetition_penalty": 3.0}),
    "encoder_repetition_penalty": ({}, {"encoder_repetition_penalty": 3.0}),
    "encoder_no_repeat_ngram_size": ({}, {"encoder_no_repeat_ngram_size": 1}),
    "exponential_decay_length_penalty": ({}, {"exponential_decay_length_penalty": (1, 1.5)}),
    "renormalize_logits": ({"suppress_tokens": (5, 6)},
                           {"suppress_tokens": (5, 6), "renormalize_logits": True}),
    "min_new_tokens": ({}, {"min_new_tokens": 5}),
}
"""Option -> what else must be said for it to have an effect, and that with the option."""

SOURCES = [np.array(s) for s in ([5, 6, 2], [7, 2], [8, 9, 10, 11, 4, 4, 5, 2])]
PREFIXES = [np.array(p) for p in ([7, 8, 9], [4, 5, 6], [10, 10, 4])]


def test_no_option_is_forgotten():
    assert set(CHANGES) == set(FIELDS)


def decoded(settings):
    """What a search gives: tokens and scores, and the sizes of its batches."""
    lm = ToyLanguageModel() if settings.lm_weight else None
    model = ToyModel(sharpness=1.0)
    params = [model.init(jax.random.key(0))] + ([lm.init(jax.random.key(1))] if lm else [])
    decoder = Decoder(model, settings, language_model=lm)
    sizes = [b.rows for b in decoder._batches(np.array([len(s) for s in SOURCES]), None)]
    found = decoder.decode(
        params, SOURCES, prefixes=PREFIXES if settings.prefix_size else None)
    return sizes, [[(h.tokens.tolist(), round(h.score, 5)) for h in hs] for hs in found]


@functools.cache
def before(said):
    return decoded(GenerationConfig(**{**BASE, **dict(said)}))


@pytest.mark.parametrize("name", FIELDS)
def test_every_option_changes_something(name):
    without, changed = CHANGES[name]
    assert decoded(GenerationConfig(**{**BASE, **changed})) != before(tuple(without.items()))


# ---- where searches are started ----


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("options")
    data = tiny_run.write_data(root / "data")
    write_checkpoint(root / "run", data)
    write_language_model(root / "lm", data / "dict.bb.txt")
    (root / "in").write_text("aa1 aa2\naa3\n")
    return root


@functools.cache
def loaded(path):
    return loading.load(path)


@pytest.fixture
def searched(monkeypatch):
    """The settings of every search, which is not carried out."""
    seen = []

    def stream(self, params, sources, *, prefixes=None, **constraints):
        del params, constraints
        nothing = Hypothesis(tokens=np.array([2]), score=0.0, positional_scores=np.zeros(1))
        seen.append((self.config, prefixes))
        yield Decoded(indices=tuple(range(len(sources))), hypotheses=[[nothing] for _ in sources])

    monkeypatch.setattr(Decoder, "stream", stream)
    monkeypatch.setattr("seqjax.hub.load", lambda path, **options: loaded(str(path)))
    monkeypatch.setattr(Decoder, "prepare", lambda self, params: None)
    return seen


def flags(changed):
    names = {k: k.replace("_", "-") for k in changed}
    return [f"--{names[k]}" if v is True else f"--no-{names[k]}" if v is False else
            f"--{names[k]}={v}" for k, v in changed.items()]


def by_command(module, *more):
    def start(run, changed):
        arguments = [x.format(run=run) for x in ("--checkpoint", "{run}/run", *more)]
        module.main([*arguments, *flags(changed)])

    return start


def evaluated(run, changed):
    config = tiny_run.resolve(tiny_run.raw_config(run / "data", generation=changed))
    task = tasks.setup(config)
    model = loaded(str(run / "run")).models[0]
    task.evaluator(model, task.dataset("valid"), generation=config.generation, limit=4)(None)


ALWAYS = {"lm_weight"}
NO_REFERENCES = {*ALWAYS, "prefix_size"}
OF_PROMPTS = {*NO_REFERENCES, "first_tokens"}
"""A language model's outputs begin with prompts."""
ENTRIES = {
    "Translator.translate": (
        lambda run, changed: loaded(str(run / "run")).translate("aa1", **changed),
        {*NO_REFERENCES, "nbest"}),
    "Translator.generate": (
        lambda run, changed: loaded(str(run / "run")).generate(["aa1"], **changed),
        NO_REFERENCES),
    "Translator.generate with prefixes": (
        lambda run, changed: loaded(str(run / "run")).generate(
            ["aa1 aa2 aa3 aa1"], prefixes=["bb1 bb2 bb3"], **changed), ALWAYS),
    "Translator.stream": (
        lambda run, changed: list(loaded(str(run / "run")).stream(["aa1"], **changed)),
        NO_REFERENCES),
    "LanguageModel.sample": (
        lambda run, changed: loaded(str(run / "lm")).sample("bb1", **changed),
        {*OF_PROMPTS, "nbest"}),
    "LanguageModel.generate": (
        lambda run, changed: loaded(str(run / "lm")).generate(["bb1"], **changed),
        OF_PROMPTS),
    "LanguageModel.stream": (
        lambda run, changed: list(loaded(str(run / "lm")).stream(["bb1"], **changed)),
        OF_PROMPTS),
    "generate --input": (by_command(generate, "--input", "{run}/in"), {*NO_REFERENCES, "nbest"}),
    "generate --input jsonl": (
        by_command(generate, "--input", "{run}/in", "--format", "jsonl"), NO_REFERENCES),
    "generate --data": (
        by_command(generate, "--data", "{run}/data", "--subset", "valid", "--format", "fairseq"),
        ALWAYS),
    "interactive": (by_command(interactive, "--input", "{run}/in"), {*NO_REFERENCES, "nbest"}),
    "interactive fairseq": (
        by_command(interactive, "--input", "{run}/in", "--format", "fairseq", "--buffer-size",
                   "2"), NO_REFERENCES),
    "validation": (evaluated, {*ALWAYS, "nbest"}),
}
"""Where a search is started -> how, and the options that cannot have an effect there."""


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_option_arrives_or_is_refused(run, searched, capsys, entry, name):
    start, refused = ENTRIES[entry]
    options._say_once.cache_clear()
    changed = CHANGES[name][1]
    if changed.get("sampling"):
        changed = {**changed, "beam": 2, "nbest": 2}
    elif name == "diverse_beam_groups" or name == "diverse_beam_strength":
        changed = {**changed, "beam": 4}
    elif name == "nbest":
        changed = {**changed, "beam": 3}
    if (entry, name) == ("validation", "nbest"):  # its hypotheses are for generate
        start(run, changed)
        assert searched[-1][0].nbest == 1
        return
    if name in refused:
        with pytest.raises((ConfigError, SystemExit)) as error:
            start(run, changed)
        assert name in f"{error.value}{capsys.readouterr().err}".replace("-", "_")
        assert not searched
        return
    start(run, changed)
    config, prefixes = searched[-1]
    assert getattr(config, name) == changed[name]
    assert getattr(config, name) != getattr(GenerationConfig(), name)
    if name == "prefix_size":
        assert prefixes is not None and all(len(p) for p in prefixes)


@pytest.mark.parametrize("given, message", [
    (dict(seed=3), "seed: 3 would change nothing: nothing is drawn"),
    (dict(diverse_beam_strength=2.0), "diverse_beam_strength: 2.0 would change nothing"),
    (dict(diverse_beam_strength=2.0, diverse_beam_groups=1), "diverse_beam_groups=2 or more"),
    (dict(sampling=True, nbest=5, sampling_topk=3, sampling_topp=0.5), "sampling_topk: 3 would"),
    (dict(prefix_size=2), "prefix_size: 2, but there are no references"),
])
def test_what_would_change_nothing_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        options.settle(GenerationConfig(), given)


@pytest.mark.parametrize("given", [
    dict(sampling_topk=3), dict(sampling_topp=0.5), dict(sampling=True, nbest=2),
    dict(sampling=True, nbest=5, diversity_rate=0.5), dict(nbest=6), dict(temperature=0.0),
    dict(temperature=-1.0), dict(temperature=float("nan")), dict(temperature=float("inf")),
    dict(temperature=1e-9), dict(lenpen=float("nan")), dict(unkpen=float("inf")),
    dict(prefix_size=-1), dict(bos_token=-1), dict(first_tokens=(4, -2)), dict(max_tokens=0),
    dict(batch_size=0), dict(min_len=-1),
    dict(sampling=True, nbest=5, sampling_topp=1.5), dict(sampling_topk=-2),
    dict(diversity_rate=-2.0), dict(diverse_beam_groups=2), dict(lm_weight=0.3), dict(beam=0),
    dict(match_source_len=True, diverse_beam_groups=5),
    dict(diversity_rate=0.5, diverse_beam_groups=5),
])
def test_what_contradicts_itself_is_refused(given):
    with pytest.raises(ConfigError, match="generation"):
        Decoder(ToyModel(), GenerationConfig(**given))


def test_where_fairseq_lets_one_option_decide_it_is_said(caplog):
    options._say_once.cache_clear()
    given = dict(unnormalized=True, lenpen=0.6)
    for _ in range(2):
        assert options.settle(GenerationConfig(), given) == GenerationConfig(**given)
    assert [r.message for r in caplog.records] == [
        "generation.lenpen: 0.6 has no effect, as in fairseq: unnormalized scores are not divided "
        "by any length"]
    options.settle(GenerationConfig(), dict(match_source_len=True, min_len=3, max_len_b=9))
    assert len(caplog.records) == 3


def test_options_of_the_training_give_way():
    inherited = GenerationConfig(lenpen=0.6, sampling_topk=5, sampling=True, nbest=5, seed=4)
    found = options.settle(inherited, dict(sampling=False, sampling_topk=-1, unnormalized=True))
    assert found == GenerationConfig(nbest=5, unnormalized=True)
    with pytest.raises(ConfigError, match="prefix_size: 1"):
        options.settle(GenerationConfig(prefix_size=1), {})


def test_validation_forces_tokens_of_the_references(run, searched):
    evaluated(run, dict(prefix_size=2, beam=2))
    config, prefixes = searched[-1]
    assert config.prefix_size == 2 and len(prefixes) == 4


@pytest.mark.parametrize("more, message", [
    (["--input", "{run}/in", "--subset", "valid"], "--subset"),
    (["--input", "{run}/in", "--required-batch-size-multiple", "1"], "fairseq's batches"),
    (["--data", "{run}/data", "--required-batch-size-multiple", "1"], "fairseq's batches"),
    (["--input", "{run}/in", "--post-process"], "always joined"),
    (["--input", "{run}/in", "--post-process", "--format", "jsonl"], "always joined"),
    (["--input", "{run}/in", "--print-alignment"], "--print-alignment needs a format"),
])
def test_flags_that_would_be_ignored_are_refused(run, capsys, more, message):
    with pytest.raises(SystemExit):
        by_command(generate, *more)(run, {})
    assert message in capsys.readouterr().err


def test_scoring_says_which_options_it_does_not_need(run, capsys):
    by_command(generate, "--data", "{run}/data", "--subset", "valid", "--score-reference",
               "--format", "jsonl", "--output", "{run}/scored")(run, dict(beam=4, batch_size=2))
    assert "--beam: no effect with --score-reference" in capsys.readouterr().err
    assert len((run / "scored").read_text().splitlines()) == 8


def test_options_of_an_earlier_call_are_of_their_types():
    """What a call's options come to is kept; True is another value than 1."""
    inherited = GenerationConfig()
    assert options.settle(inherited, {"beam": 1}).beam == 1
    assert options.settle(inherited, {"beam": 1}).beam == 1
    for wrong in (True, "many"):
        with pytest.raises(ConfigError, match="beam"):
            options.settle(inherited, {"beam": wrong})
