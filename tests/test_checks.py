"""Values that make no sense are refused, or said, before anything is computed."""

from __future__ import annotations

import dataclasses
import re
import typing

import jax
import pytest
from tiny_run import raw_config, resolve, write_data

from seqjax import config as configuration
from seqjax.config import Config, ConfigError
from seqjax.training import checks, divergence, train_loop
from seqjax.training.schedules import make_schedule


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


def given(data, *overrides: str) -> Config:
    pairs = dict(text.split("=", 1) for text in overrides)
    return resolve(configuration.apply_overrides(raw_config(data), pairs))


REFUSED = [
    ("train.lr=0", "at 0 nothing is learned"),
    ("train.lr=-0.001", "at 0 nothing is learned"),
    ("train.lr=0.1,0", "train.lr: 0.1, 0; at 0"),
    ("train.lr=nan", "train.lr: nan is no number"),
    ("train.lr=inf", "train.lr: inf is no number"),
    ("train.clip_norm=-1", "train.clip_norm: -1; it must be 0 or more"),
    ("train.update_freq=2,0", "train.update_freq: 2, 0; it must be 1 or more"),
    ("train.max_update=-5", "train.max_update: -5"),
    ("train.stop_time_hours=nan", "train.stop_time_hours: nan"),
    ("train.nan_patience=-1", "train.nan_patience"),
    ("optimizer.adam_eps=-1e-8", "optimizer.adam_eps"),
    ("optimizer.adam_betas=0.9,1.0", r"optimizer.adam_betas: 0.9, 1; it must be in \[0, 1\)"),
    ("optimizer.momentum=1.5", "optimizer.momentum"),
    ("optimizer.weight_decay=-0.1", "optimizer.weight_decay"),
    ("schedule.warmup_updates=-1", "schedule.warmup_updates: -1"),
    ("schedule.lr_shrink=0", "schedule.lr_shrink"),
    ("schedule.end_learning_rate=-1", "schedule.end_learning_rate"),
    ("batching.max_tokens=0", "batching.max_tokens: 0; it must be 1 or more"),
    ("batching.max_tokens=none", "give one, or batches have no size"),
    ("batching.length_multiple=0", "batching.length_multiple"),
    ("batching.num_shapes=0", "batching.num_shapes"),
    ("valid.patience=3", "3 validations, but there are none"),
    ("valid.samples=-1", "valid.samples"),
    ("valid.every_updates=-2", "valid.every_updates"),
    ("checkpoint.keep_last=0", "a run goes on from its last checkpoint"),
    ("checkpoint.keep_best=-1", "checkpoint.keep_best"),
    ("log.interval_updates=0", "log.interval_updates"),
    ("loss.label_smoothing=-0.1", "loss.label_smoothing"),
    ("loss.ignore_prefix_size=-1", "loss.ignore_prefix_size"),
    ("model.dropout=-0.1", "model.dropout"),
    ("model.encoder_ffn_embed_dim=0", "model.encoder_ffn_embed_dim"),
    ("task.max_source_positions=0", "task.max_source_positions"),
    ("seed=-1", "seed: -1"),
]


@pytest.mark.parametrize(("override", "says"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_cannot_be_meant(data, tmp_path, override, says):
    """And nothing is written."""
    with pytest.raises(ValueError, match=says) as error:
        train_loop.train(given(data, override), workdir=str(tmp_path / "run"))
    assert override.partition("=")[0] in str(error.value)
    assert not (tmp_path / "run").exists()


def test_two_ways_to_begin(data, tmp_path):
    for first, second in (("a", "b"), ("model.pt", "b"), ("a", "model.pt")):
        with pytest.raises(ConfigError, match="init_from, config.resume_from: give one of them"):
            train_loop.train(given(data, f"init_from={first}", f"resume_from={second}"),
                             workdir=str(tmp_path / "run"))


def test_a_rate_of_nothing_can_be_asked_for(data):
    checks.check(given(data, "train.lr=0", "train.allow_nonpositive_lr=true"))


def test_every_rule_is_of_a_key(data):
    """No rule is for a key that is not there (any longer)."""
    config = given(data)
    known = {f"{s.name}.{f.name}" for s in dataclasses.fields(config)
             if dataclasses.is_dataclass(getattr(config, s.name))
             for f in dataclasses.fields(getattr(config, s.name))} | {"seed"}
    assert set(checks._RULES) - known <= {"loss.alignment_lambda"}
    for section, names in checks._READ.items():
        fields = {f.name for f in dataclasses.fields(getattr(config, section))}
        assert set().union(*names.values()) <= fields
        hints = typing.get_type_hints(type(getattr(config, section)))
        assert set(names) == set(typing.get_args(hints["name"]))


def test_every_recipe_passes(repository):
    for file in sorted((repository / "configs").glob("*.py")):
        checks.check(resolve(configuration.load_file(str(file))))


def notes(config: Config) -> list[str]:
    schedule = make_schedule(config.schedule, lr=config.train.lr,
                             max_update=config.train.max_update)
    return checks.notes(config, schedule)


SAID = [
    ([], None),
    (["schedule.warmup_updates=100"], "ends inside the warm-up of 100 updates: the learning rate "
                                      "reaches 0.0058 of 0.02"),
    (["schedule.name=polynomial_decay", "schedule.total_num_update=10"],
     "the learning rate is 0 from about update 10 of 30 on"),
    (["train.max_update=0"], "no limit is set"),
    (["optimizer.momentum=0.9"], "optimizer.momentum: optimizer.name=adam does not read it"),
    (["schedule.min_lr=0.1", "schedule.power=2"], "schedule.name=inverse_sqrt does not read them"),
    (["schedule.name=polynomial_decay"], None),
    (["schedule.name=fixed"], None),
]


@pytest.mark.parametrize(("overrides", "says"), SAID)
def test_what_is_rarely_meant(data, overrides, says):
    found = notes(given(data, *overrides))
    assert len(found) == (says is not None), found
    assert says is None or says in found[0]


def test_a_rate_that_is_0_throughout(data):
    config = given(data, "train.lr=1e-50")  # nothing in float32
    with pytest.raises(ConfigError, match="0 or below in all of the 30 updates"):
        notes(config)


def test_a_loss_beyond_reason_is_said_once():
    watch = divergence.Watch(vocab_size=1024, metrics=["nll_loss", "loss"])
    assert watch("training", {"nll_loss": 11.5, "num_updates": 1}) is None  # fresh
    assert watch("training", {"nll_loss": 4.0, "num_updates": 100}) is None
    assert watch("training", {"nll_loss": 5.9, "num_updates": 200}) is None
    text = watch("training", {"nll_loss": 12.6, "num_updates": 300, "lr": 0.5})
    assert text and "12.6 bits a word at update 300" in text and "costs 10.0" in text
    assert "lower train.lr (it is 0.5)" in text and "clip_norm" in text
    assert watch("training", {"nll_loss": 1e13, "num_updates": 400}) is None
    for loss in (1e13, float("nan"), float("inf"), 21.0):
        watch = divergence.Watch(vocab_size=1024, metrics=["loss"])
        text = watch("valid", {"loss": loss, "num_updates": 9})
        assert text and "the valid loss is" in text
        assert ("perplexity beyond all numbers" in text) == (loss != 21.0)


@pytest.fixture
def one_device(monkeypatch):
    make = train_loop.sharding.make_mesh
    monkeypatch.setattr(train_loop.sharding, "make_mesh",
                        lambda mesh: make(mesh, devices=jax.devices()[:1]))


def test_a_run_that_diverges_says_so(data, tmp_path, one_device, capsys):
    train_loop.train(
        given(data, "train.lr=1000", "schedule.name=fixed",
              "schedule.warmup_updates=0", "valid.every_updates=10", "train.max_update=20"),
        workdir=str(tmp_path))
    text = capsys.readouterr().err
    assert text.count("Training has diverged") == 1
    before = text[: text.index("Training has diverged")]
    assert before.count("ppl") <= 2  # with the first line that shows it


def test_the_last_line_and_the_log(data, tmp_path, one_device, capsys):
    workdir = tmp_path / "my run"
    overrides = ["valid.every_updates=10", "checkpoint.keep_last=1"]
    train_loop.train(given(data, *overrides), workdir=str(workdir))
    text = capsys.readouterr().err
    last = text.rstrip().splitlines()[-1]
    found = re.search(r"best loss ([\d.]+) at update (\d+): (.*/checkpoints/\d+); next: "
                      r"(python -m seqjax.generate --checkpoint '.*my run' .*)", last)
    assert found, last
    losses = {m["num_updates"]: m["loss"] for m in _valid(workdir)}
    assert losses[int(found[2])] == pytest.approx(min(losses.values()))
    assert float(found[1]) == pytest.approx(min(losses.values()), abs=1e-3)
    assert found[3] == str(workdir / "checkpoints" / found[2])
    assert (workdir / "checkpoints" / found[2]).is_dir()
    # The same lines are in the log, with the date; another run is appended.
    log = [line[11:] for line in (workdir / "train.log").read_text().splitlines()]
    assert log == text.splitlines()
    train_loop.train(given(data, *overrides, "train.max_update=35"), workdir=str(workdir))
    again = (workdir / "train.log").read_text().splitlines()
    assert len(again) > len(log) and any("continuing" in line for line in again[len(log):])
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in again)


def _valid(workdir):
    from tiny_run import metrics

    return metrics(workdir, "valid")
