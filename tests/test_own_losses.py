"""Losses: what each declares is what it computes; and a user's own, as docs/extending.md."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import pathlib
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from flax import struct

import seqjax
from seqjax import checkpoints, evaluate, losses, models, tasks
from seqjax.config import ConfigError
from seqjax.losses import COUNTS, LOSSES, Loss, Metric
from seqjax.losses.base import Forward, LossOutput
from seqjax.models.protocol import Encoded
from seqjax.training import metrics, objective, train_step
from seqjax.training.divergence import Watch

# ---- declarations ----

B, T, D, V = 3, 5, 4, 9


@struct.dataclass
class Clusters:
    """An adaptive softmax of a head of 6 words and a tail of 3."""

    kernel: jax.Array
    ends: tuple[int, int] = struct.field(pytree_node=False, default=(6, V))

    def head_logits(self, hidden):
        return hidden @ self.kernel

    def tail_hidden(self, index, hidden):
        return hidden

    def tail_logits(self, index, narrow):
        return narrow @ jnp.ones((D, 3))


@dataclasses.dataclass
class States:
    hidden: jax.Array
    projection: object

    def project(self, projection, hidden):
        return hidden @ projection


def everything(name: str) -> tuple[Forward, dict[str, jax.Array], object]:
    """A forward pass with all that a loss may need, its batch, and a section that asks for all
    that it can report."""
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32)
    clusters = "clusters" in LOSSES[name].needs
    attention = jax.nn.softmax(jnp.asarray(rng.normal(size=(B, T, T)), jnp.float32))
    section = LOSSES[name].config()
    if hasattr(section, "report_accuracy"):
        section = dataclasses.replace(section, report_accuracy=True)
    says = ("prob_perplexity", "code_perplexity", "temp", "num_vars", "features_pen")
    if name == "wav2vec":
        section = dataclasses.replace(section, log_keys=says, loss_weights=(0.1, 10.0))
    forward = Forward(
        features=States(hidden, Clusters(jnp.ones((D, 7))) if clusters else jnp.ones((D, V))),
        encoded=Encoded(out=hidden, mask=jnp.ones((B, T), bool)),
        target=jnp.asarray(rng.integers(4, V, (B, T))), pad=1, attention=attention,
        aux={"logits": hidden, "ctc_logits": jnp.zeros((B, T, V)), "masked": jnp.ones((B, T), bool),
             **dict.fromkeys(says, jnp.float32(2))})
    if name == "hubert":
        section = dataclasses.replace(
            section, log_keys=("features_pen",), loss_weights=(10.0,), pred_nomask_weight=0.5)
        real = jnp.ones((B, T), bool)
        forward = dataclasses.replace(forward, aux={
            **forward.aux, "logits": (hidden,) * 8, "unmasked": real, "real": real})
    if name == "model":
        section = dataclasses.replace(section, log_keys=("ema_decay", "target_var", "pred_var"))
        forward = dataclasses.replace(forward, aux={
            **dict.fromkeys(section.log_keys, jnp.float32(2)), "real": jnp.ones((B, T), bool),
            "losses": {"regression": jnp.float32(3)}, "sample_size": jnp.float32(5)})
    pairs = jnp.zeros((B, 2), jnp.int32)
    batch = {"aligned_source": pairs, "aligned_target": pairs}
    if {"classes", "candidates"} & LOSSES[name].needs:
        sentences = {"logits": hidden[:, 0], "real": jnp.ones(B, bool), "tokens": jnp.float32(9)}
        forward = dataclasses.replace(forward, aux=sentences)
        batch["labels"] = jnp.asarray([0, D - 1] * (B // 2) + [1] * (B % 2), jnp.int32)
    return forward, batch, section


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_computes_what_it_declares(name):
    loss = LOSSES[name]
    forward, batch, section = everything(name)
    found = loss.function(forward, batch, section, update=jnp.int32(0))
    assert isinstance(found, LossOutput) and set(found.metrics) == loss.computed
    assert loss.name == name == section.name and losses.CONFIGS[name] is loss.config
    for value, metric in ((found.metrics[n], loss.metrics[n]) for n in found.metrics):
        assert all(jnp.shape(x) == () for x in value)
        if metric.percent:
            assert 0 <= float(value[0]) <= float(value[1])


def test_what_is_declared_of_the_losses_here():
    """As fairseq reports them; a change of a line in a loss shows here."""
    def names(**marks):
        return {n for loss in LOSSES.values() for n, m in loss.metrics.items()
                if loss.name != "model" and not re.fullmatch(r"\w+_[mu]_\d", n)
                and all(getattr(m, key) == value for key, value in marks.items())}

    # Of HuBERT's lists of labels, and of models that say their losses themselves, as they are.
    lists, own = LOSSES["hubert"].metrics, LOSSES["model"].metrics
    assert lists["loss_m_7"].base2 and lists["correct_u_0"].maximize and not own["loss"].base2
    assert own["pred_var"].maximize and not any(m.base2 for m in own.values())
    assert names(base2=True) == {
        "loss", "nll_loss", "alignment_loss", "ctc_loss", "loss_0", "loss_1", "loss_2",
        "loss_features_pen"}
    assert names(like_loss=True) == {"loss", "alignment_loss", "ctc_loss"}
    assert names(percent=True) == names(maximize=True) == {"accuracy"}
    assert names(count=True) == set(COUNTS) == {"ntokens", "nsentences"}
    assert names(perplexity_of="nll_loss") == names(perplexity_of="loss") == {"ppl"}
    assert names(format="{:.2f}") == {"ppl"} and names(format="{:.5f}") == {"accuracy"}
    assert names(format="{:.3f}") | {"ppl"} == names()
    assert {name: set(loss.needs) for name, loss in LOSSES.items() if loss.needs} == {
        "adaptive_loss": {"clusters"},
        "label_smoothed_cross_entropy_with_alignment": {"alignments"},
        "label_smoothed_cross_entropy_with_ctc": {"ctc"},
        "masked_lm": {"masks"}, "sentence_prediction": {"classes"},
        "sentence_ranking": {"candidates"}, "wav2vec": {"negatives"},
        "hubert": {"frame_labels"}, "ctc": {"frame_symbols"}, "model": {"losses"}}


def test_what_losses_need_some_key_gives():
    """Keys that are of the same name give the same, in every model and task."""
    given: dict[str, set[object]] = {}
    for classes in (models.CONFIGS, tasks.CONFIGS):
        for cls in classes.values():
            for field in dataclasses.fields(cls):
                given.setdefault(field.name, set()).add(
                    getattr(field.metadata.get("gives"), "what", None))
    found = {name: what for name, what in given.items() if what != {None}}
    for shared in ("mask_prob", "name"):  # keys of other models too
        found[shared].discard(None)
    assert found == {"adaptive_softmax_cutoff": {"clusters"}, "load_alignments": {"alignments"},
                     "num_classes": {"classes", "candidates"}, "num_negatives": {"negatives"},
                     "mask_prob": {"masks"}, "label_classes": {"frame_labels"},
                     "ctc_weight": {"ctc"}, "name": {"frame_symbols"},
                     "ema_decay": {"losses"}}
    needed = {what for loss in LOSSES.values() for what in loss.needs}
    assert needed == {what for names in found.values() for what in names}


def test_what_is_declared_of_updates_and_the_clock():
    shown = {n: m.format for n, m in (train_step.METRICS | metrics.SPEED).items()}
    assert shown == {
        "gnorm": "{:.3f}", "clip": "{:.1f}", "lr": "{:.6g}", "skipped": "{:.3f}",
        "num_updates": "{:.0f}", "wps": "{:.1f}", "ups": "{:.2f}", "wpb": "{:.1f}",
        "bsz": "{:.1f}", "padding": "{:.1f}", "train_wall": "{:.0f}", "wall": "{:.0f}",
        "epoch": "{:.0f}"}
    assert {n for n, m in train_step.METRICS.items() if m.percent} == {"clip"}


def test_metrics_are_averaged_shown_and_compared_as_declared():
    declared = {
        "plain": Metric(), "bits": Metric(base2=True), "share": Metric(percent=True, maximize=True),
        "things": Metric(count=True), "ppl": Metric(perplexity_of="bits", format="{:.1f}")}
    sums = {"plain": (6.0, 2.0), "bits": (math.log(2) * 8, 2.0), "share": (1.0, 4.0),
            "things": (5.0, 1.0)}
    found = metrics.averages(sums, declared)
    assert found == {"plain": 3.0, "bits": pytest.approx(4), "share": 25.0,
                     "ppl": pytest.approx(16)}
    assert metrics.shown(found, declared) == {
        "plain": "3.000", "bits": "4.000", "share": "25.000", "ppl": "16.0"}
    assert metrics.averages({"bits": (math.log(2) * 2000, 1.0)}, declared)["ppl"] == math.inf
    better = {name: metrics.is_maximized(name, declared, chosen=None) for name in declared}
    assert better == {**dict.fromkeys(declared, False), "share": True}
    assert metrics.is_maximized("plain", declared, chosen=True)
    assert not metrics.is_maximized("share", declared, chosen=False)


def test_averaged_like_the_loss_is_by_sentence_with_it():
    declared = {**COUNTS, "loss": Metric(like_loss=True), "other": Metric()}
    one = jnp.float32(1)

    def loss_fn(params, extra, batch, rng, update):
        found = {"loss": (one * 6, one * 3), "other": (one * 6, one * 3),
                 "ntokens": (one * 3, one), "nsentences": (one * 2, one)}
        return LossOutput(sum=one * 6, weight=one * 3, metrics=found), extra

    found, _ = train_step.sentence_average(loss_fn, declared)({}, {}, {}, None, one)
    assert float(found.weight) == 2
    assert {n: float(w) for n, (_, w) in found.metrics.items()} == {
        "loss": 2, "other": 3, "ntokens": 1, "nsentences": 1}


def test_divergence_is_known_of_losses_in_bits_a_word_alone():
    values = {"loss": 1e9, "nll_loss": 1e9, "num_updates": 1}
    assert "diverged" in str(Watch(vocab_size=8, metrics=["nll_loss"])("training", values))
    assert Watch(vocab_size=8, metrics=[])("training", values) is None


@pytest.mark.parametrize(("lacking", "message"), [
    ({"loss": Metric()}, "'odd': its metrics lack nsentences, ntokens"),
    (COUNTS, "'odd': its metrics lack loss"),
    ({**COUNTS, "loss": Metric(), "ppl": Metric(perplexity_of="loss")},
     "ppl is the perplexity of loss, which is not among its metrics in base 2"),
    ({**COUNTS, "loss": Metric(base2=True), "ppl": Metric(perplexity_of="nll_loss")},
     "ppl is the perplexity of nll_loss, which is not"),
])
def test_a_declaration_that_cannot_be_is_refused(lacking, message):
    with pytest.raises(ValueError, match=message):
        Loss(name="odd", config=type(everything("cross_entropy")[2]), compute="a:b",
             metrics=lacking)


def test_a_metric_of_a_loss_is_named_where_it_is_declared_and_computed(repository):
    """What others name is not by which they know a loss: a language model's evaluation without
    one, and what fairseq's command line lacks for a metric."""
    own = {n for loss in LOSSES.values() for n in loss.metrics} - {"loss", *COUNTS}
    found = {
        (str(path.relative_to(repository / "seqjax")), node.value)
        for path in (repository / "seqjax").rglob("*.py")
        if "models" not in path.parts and path.parent.name != "losses"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in own}
    assert found == {("hub/evaluation.py", "ppl"),
                     ("interop/fairseq/recipe_sections.py", "accuracy")}


# ---- own losses ----


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_run.write_data(tmp_path_factory.mktemp("losses") / "data")


@pytest.fixture
def mypackage(tmp_path, repository, monkeypatch):
    """The package of docs/extending.md, on the path."""
    text = (repository / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# mypackage/losses\.py\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "own" / "mypackage"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "losses.py").write_text(code)
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    for name in [m for m in sys.modules if m.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def test_own_loss_by_the_command_line(mypackage, data, tmp_path, monkeypatch, capsys):
    """The guide's: trained by `python -m`, remembered by the checkpoint, loaded and evaluated."""
    raw = tiny_run.raw_config(
        data, train={"max_update": 4}, batching={"max_tokens": 256},
        checkpoint={"asynchronous": False}, log={"interval_updates": 1},
        valid={"metric": "entropy", "every_updates": 2})
    (tmp_path / "config.json").write_text(json.dumps(raw))
    root = pathlib.Path(tiny_run.__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{mypackage.parent}:{root}")
    command = [sys.executable, "-m", "seqjax.train", "--config", "config.json", "--workdir", "run",
               "--config.loss.name=mypackage.losses:MyLoss", "--config.loss.warmup_updates=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    train, valid = (tiny_run.metrics(run, group) for group in ("train_inner", "valid"))
    # By update: nothing of it, half, all of it.
    share = [(line["nll_loss"] - line["loss"]) / line["entropy"] for line in train]
    np.testing.assert_allclose(share, [0, 0.05, 0.1, 0.1], atol=1e-5)
    assert all(line["ppl"] == pytest.approx(2 ** line["nll_loss"]) for line in train)
    record = checkpoints.read_record(checkpoints.find(run))
    assert record.maximize and record.best == max(round(line["entropy"], 3) for line in valid)
    assert json.loads((run / "config.json").read_text())["loss"] == {
        "name": "mypackage.losses:MyLoss", "penalty": 0.1, "warmup_updates": 2}

    model = seqjax.load(run, quiet=True)
    assert type(model.config.loss).__name__ == "MyLossConfig"
    assert model.config.loss.warmup_updates == 2
    evaluate.main(["--checkpoint", str(run), "--subset", "valid", "--json", "--quiet"])
    found = json.loads(capsys.readouterr().out)
    assert {"entropy", "nll_loss", "ppl"} <= set(found)
    best = next(line for line in valid if round(line["entropy"], 3) == record.best)
    assert found["entropy"] == pytest.approx(best["entropy"], rel=1e-4)
    evaluate.main(["--checkpoint", str(run), "--subset", "valid", "--quiet"])
    assert re.search(r"\| ppl \d+\.\d\d \|", capsys.readouterr().out)

    wrong = [word.replace("penalty", "penalyt") for word in [*command, "--config.loss.penalty=1"]]
    done = subprocess.run(wrong, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2 and "config.loss.penalyt: unknown key. Did you mean 'penalty'?" in (
        done.stderr), done.stderr


def test_fairseq_is_told_of_a_loss_that_it_has(mypackage, data, tmp_path):
    """It builds a criterion whenever it loads a model."""
    from tiny_checkpoint import write_checkpoint

    from seqjax import convert
    from seqjax.interop.fairseq.checkpoint import load_fairseq

    run = write_checkpoint(tmp_path / "run", data, loss={"name": "mypackage.losses:MyLoss"})
    with pytest.warns(UserWarning, match="fairseq has no criterion 'mypackage.losses:MyLoss'"):
        convert.main([str(run), str(tmp_path / "model.pt")])
    assert load_fairseq(tmp_path / "model.pt").task.criterion["_name"] == "cross_entropy"


@pytest.mark.parametrize("name", LOSSES)
def test_no_key_of_a_criterion_is_lost(name):
    from seqjax.interop.fairseq.config import FairseqConfig, task_args
    from seqjax.interop.fairseq.keys import types

    own = {field.name for field in dataclasses.fields(LOSSES[name].config)} - {"name"}
    given = {key: 7 for key in own & set(types("criterion", name))}
    criterion = {"_name": name, "sentence_avg": True, "post_process": "letter", **given}
    found = task_args(FairseqConfig(arch="transformer", model={}, groups={"criterion": criterion}))
    assert found.criterion == {"_name": name, "sentence_avg": True, **given}


def test_a_file_that_does_not_say_means_what_fairseq_does():
    """Smoothing is 0.1 here and 0 there."""
    from seqjax.interop.fairseq.files import loss_section

    silent = types.SimpleNamespace(task=types.SimpleNamespace(
        criterion={"_name": "label_smoothed_cross_entropy"}))
    assert loss_section(silent)["label_smoothing"] == 0.0


OTHERS = '''
import dataclasses
from mypackage.losses import MyLoss, MyLossConfig
from seqjax.losses import Loss

@dataclasses.dataclass(frozen=True)
class Nameless:
    penalty: float = 0.1

class NoConfig: ...
class NoName(MyLoss): Config = Nameless
class NoMetrics: Config = MyLossConfig
class OddMetrics(MyLoss): METRICS = {"loss": "base 2"}
class FewMetrics(MyLoss): METRICS = {}
class OddNeeds(MyLoss): NEEDS = "teacher"
class Unmet(MyLoss): NEEDS = {"teacher"}

class Undeclared(MyLoss):
    METRICS = {k: v for k, v in MyLoss.METRICS.items() if k != "entropy"}

class Uncounted(MyLoss):
    @staticmethod
    def compute(*args, **options):
        found = MyLoss.compute(*args, **options)
        return found.replace(metrics={k: v for k, v in found.metrics.items() if k != "ntokens"})

RECORD = Loss(name="mine", config=MyLossConfig, compute=MyLoss.compute, metrics=MyLoss.METRICS)
'''


@pytest.mark.parametrize(("name", "message"), [
    ("nowhere.losses:MyLoss", "cannot import 'nowhere.losses:MyLoss'"),
    ("mypackage.others:Nothing", "cannot import 'mypackage.others:Nothing'"),
    ("mypackage.others:NoConfig", "'mypackage.others:NoConfig' has no dataclass named Config"),
    ("mypackage.others:NoName", "has no field name"),
    ("mypackage.others:NoMetrics", "'mypackage.others:NoMetrics' has no METRICS, compute"),
    ("mypackage.others:OddMetrics", "are no dict of seqjax.losses.Metric"),
    ("mypackage.others:FewMetrics", "its metrics lack loss, nsentences, ntokens"),
    ("mypackage.others:OddNeeds", "the NEEDS of .* are the text 'teacher'"),
    ("mypackage.others:Unmet", "needs teacher, which neither the model transformer nor the task "),
    ("cross_entorpy", "'cross_entorpy' is unknown. Did you mean 'cross_entropy'"),
])
def test_what_is_no_loss_is_refused_by_its_key(mypackage, data, name, message):
    (mypackage / "others.py").write_text(OTHERS)
    with pytest.raises(ConfigError, match=r"config\.loss\.name: .*" + message):
        objective.check(tiny_run.resolve(tiny_run.raw_config(data, loss={"name": name})))


@pytest.mark.parametrize(("name", "message"), [
    ("Undeclared", "computes entropy, which its metrics do not declare"),
    ("Uncounted", "does not compute ntokens"),
    ("RECORD", None),
])
def test_metrics_are_checked_before_anything_is_computed(mypackage, data, name, message):
    from seqjax.training import initial_state, parts

    (mypackage / "others.py").write_text(OTHERS)
    raw = tiny_run.raw_config(data, loss={"name": f"mypackage.others:{name}"},
                              batching={"max_tokens": 256})
    found = parts.prepare(tiny_run.resolve(raw))
    state = initial_state.abstract_state(found)
    if message is None:
        found.validator.check_metric(state)
        assert found.loss.name == "mypackage.others:RECORD"
        return
    with pytest.raises(ConfigError, match=f"config.loss.name: mypackage.others:{name} {message}"):
        found.validator.check_metric(state)
