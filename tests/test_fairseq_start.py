"""Starting from fairseq's files: what a command's configuration says against what they hold."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import convert, hub, models
from seqjax.checkpoints import CheckpointError, Record
from seqjax.config import CheckpointConfig, ConfigError, OptimizerConfig
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.interop.fairseq.checkpoint import stored_config, to_state
from seqjax.interop.fairseq.export import namespace
from seqjax.interop.fairseq.optimizer_state import read_state, write_state
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.writer import write_pt
from seqjax.losses.adaptive import AdaptiveLossConfig, adaptive_loss
from seqjax.models.overrides import resolved
from seqjax.models.parts.adaptive import check_softmax_widths
from seqjax.training.checkpoints import Checkpoints
from seqjax.training.optimizers import make_optimizer
from seqjax.training.state import new_state

CASES = (
    "lstm/bidirectional", "lstm/adaptive", "lstm/shared", "lstm/tied_no_attention",
    "lstm/lm_adaptive", "lstm/lm_residual", "fconv/mixed", "fconv/lm", "fconv/lm_adaptive",
    "lightconv/dynamic", "lightconv/lightweight", "lightconv/lm", "lightconv/lm_adaptive",
    "transformer_lm/adaptive", "transformer_lm/adaptive_softmax", "transformer_lm/learned",
    "transformer_lm/widths", "transformer_align/causal")
DERIVED = ("lstm", "lstm_lm", "lightconv", "lightconv_lm", "transformer_lm", "transformer")
SCALES = {"scale_attn": True, "scale_fc": True, "scale_heads": True, "scale_resids": True}


def about(case):
    with np.load(goldens.FOLDER / f"{case}.npz") as file:
        return json.loads(str(file["about"]))


def flags(args):
    """As they are given to fairseq-train."""
    words = []
    for key, value in args.items():
        if value is True and not key.endswith(("_glu", "softmax")):
            words.append(f"--{key.replace('_', '-')}")
        elif value is not False or key.endswith(("_glu", "softmax")):
            words += [f"--{key.replace('_', '-')}", str(value)]
    return words


def command(case):
    """The run of a case; what it does not say follows from the rest."""
    found = about(case)
    args = {"criterion": "label_smoothed_cross_entropy", **found["args"]}
    positions = {"max_source_positions": 20, "max_target_positions": 20}
    task = ["--task", "language_modeling", "--tokens-per-sample", "20"]
    lm = "_lm" in found["arch"]
    words = ["fairseq-train", "data", "--arch", found["arch"], "--max-tokens", "100",
             *(task if lm else flags(positions)), *flags(args)]
    return shlex.join(words)


def file(golden, path, *, state=None, **changes):
    """The file of that run, or with other weights: fairseq writes what keys follow into it."""
    args = {"task": "language_modeling" if golden.is_lm else "translation",
            **golden.checkpoint.fairseq.model, **changes}
    args = namespace(golden.checkpoint.config, args) | changes
    write_pt(path, {"args": argparse.Namespace(**args), "model": state or golden.state,
                    "optimizer_history": [{"num_updates": 3}]})
    return str(path)


@pytest.mark.parametrize("case", CASES)
def test_a_commands_configuration_fits_its_own_run(case, tmp_path):
    golden = goldens.load(case)
    path = file(golden, tmp_path / "run.pt")
    config = hub.resolve(fairseq_recipe.from_command(command(case)).raw)
    start = fairseq_start.start_from(dataclasses.replace(config, init_from=path))
    assert start is not None
    assert start.params.keys() == golden.checkpoint.params.keys()


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoints_configuration_fits_itself(case, tmp_path, capsys):
    golden = goldens.load(case)
    path = file(golden, tmp_path / "run.pt", max_tokens=100, lr_scheduler="fixed", data="data")
    convert.main(["args", path])
    scope = {}
    exec(capsys.readouterr().out, scope)
    config = hub.resolve(scope["get_config"]().to_dict())
    assert resolved(config.model) == resolved(golden.checkpoint.config)
    fairseq_start.start_from(dataclasses.replace(config, init_from=path))


def test_fairseq_saves_that_all_embeddings_are_shared_as_two_keys(tmp_path):
    golden = goldens.load("lstm/shared")
    assert golden.checkpoint.config.share_all_embeddings
    path = file(golden, tmp_path / "run.pt", share_decoder_input_output_embed=True)
    text = command("lstm/shared").replace("--share-decoder-input-output-embed", "")
    config = hub.resolve(fairseq_recipe.from_command(text).raw)
    assert not config.model.share_decoder_input_output_embed
    fairseq_start.start_from(dataclasses.replace(config, init_from=path))


@pytest.mark.parametrize("family", DERIVED)
def test_a_width_that_follows_is_the_same_said_or_not(family):
    plain = models.CONFIGS[family]()
    said = resolved(plain)
    assert all(getattr(said, key) is not None for key in plain.FOLLOWS)
    assert resolved(said) == said
    key = next(k for k in plain.FOLLOWS if k.endswith(("_dim", "_size")))
    other = {key: getattr(said, key) * 2}
    if family != "lightconv" or key != "decoder_embed_dim":
        assert resolved(dataclasses.replace(plain, **other)) != said


def test_another_width_is_still_refused(tmp_path):
    golden = goldens.load("lstm/bidirectional")
    path = file(golden, tmp_path / "run.pt")
    text = command("lstm/bidirectional").replace("--encoder-hidden-size 5", "")
    config = hub.resolve(fairseq_recipe.from_command(text).raw)
    with pytest.raises(CheckpointError, match="encoder_hidden_size: 5 there, 6 here"):
        fairseq_start.start_from(dataclasses.replace(config, init_from=path))


# ---- what only the weights, or only the criterion, tell ----


def test_cutoffs_of_an_lstm_count_with_adaptive_loss_only():
    text = "fairseq-train d --arch {} --max-tokens 9 --criterion {} {}"
    lm = "lstm_lm --task language_modeling"
    for arch, criterion, more, expected in (
            ("lstm", "adaptive_loss", "", (10_000, 50_000, 200_000)),
            ("lstm", "adaptive_loss", "--adaptive-softmax-cutoff 8,14", (8, 14)),
            ("lstm", "cross_entropy", "--adaptive-softmax-cutoff 8,14", None),
            (lm, "cross_entropy", "--adaptive-softmax-cutoff 8,14", None),
            ("fconv_lm_dauphin_gbw --task language_modeling", "cross_entropy", "", None),
            ("fconv_lm_dauphin_gbw --task language_modeling", "adaptive_loss", "",
             (10_000, 50_000, 200_000))):
        recipe = fairseq_recipe.from_command(text.format(arch, criterion, more))
        assert hub.resolve(recipe.raw).model.adaptive_softmax_cutoff == expected
        if more and expected is None:
            assert any("--adaptive-softmax-cutoff" in note for note in recipe.notes)


def test_the_final_norm_of_an_old_language_model_is_in_its_weights(tmp_path, capsys):
    """Versions 2 and before saved a norm that their models did not use."""
    golden = goldens.load("transformer_lm/learned")
    state = golden.state | {"decoder.version": np.array([2.0], np.float32)}
    path = file(golden, tmp_path / "old.pt", state=state, max_tokens=100, data="data")
    assert stored_config(read_pt(path)).no_decoder_final_norm
    assert not golden.checkpoint.config.no_decoder_final_norm
    convert.main(["args", path])
    scope = {}
    exec(capsys.readouterr().out, scope)
    config = hub.resolve(scope["get_config"]().to_dict())
    assert config.model.no_decoder_final_norm
    fairseq_start.start_from(dataclasses.replace(config, init_from=path))


def test_language_models_have_no_scales_in_fairseq(tmp_path):
    """Keys without weights, as fairseq writes them; and a command that asks for them."""
    golden = goldens.load("transformer_lm/learned")
    path = file(golden, tmp_path / "run.pt", **SCALES)
    config = stored_config(read_pt(path))
    assert not any(getattr(config, key) for key in SCALES)
    text = command("transformer_lm/learned") + " " + " ".join(flags(SCALES))
    recipe = fairseq_recipe.from_command(text)
    assert sum("takes no notice of --scale-" in note for note in recipe.notes) == 4
    config = hub.resolve(recipe.raw)
    fairseq_start.start_from(dataclasses.replace(config, init_from=path))
    # The weights decide: where they are, the model has them, whatever the keys say.
    golden = goldens.load("transformer_lm/normformer")
    assert all(getattr(golden.checkpoint.config, key) for key in SCALES)


def test_a_last_cutoff_at_the_end_of_the_dictionary_says_nothing(tmp_path):
    """The command says it; of the file the weights say the same without."""
    case = "transformer_lm/adaptive_softmax"
    golden = goldens.load(case)
    path = file(golden, tmp_path / "run.pt")
    cutoff, size = golden.checkpoint.config.adaptive_softmax_cutoff, 18
    assert cutoff[-1] < size == golden.checkpoint.target_vocab_size
    given = about(case)["args"]["adaptive_softmax_cutoff"]
    text = command(case).replace(given, ",".join(map(str, (*cutoff, size))))
    config = hub.resolve(fairseq_recipe.from_command(text).raw)
    assert config.model.adaptive_softmax_cutoff[-1] == size
    fairseq_start.start_from(dataclasses.replace(config, init_from=path))


@pytest.mark.parametrize("more", [
    {"criterion": {}}, {"criterion": None, "task_state": {}}, {"last_optimizer_state": None},
    {"optimizer_history": []}, {"extra_state": {"ema": {"w": np.zeros(2, np.float32)}}},
    {"extra_state": None}, {"cfg": None}, {"half": True}])
def test_what_else_a_file_may_hold_or_lack(more, tmp_path):
    golden = goldens.load("lstm/bidirectional")
    path = file(golden, tmp_path / "run.pt")
    tree = read_pt(path) | {k: v for k, v in more.items() if k != "half"}
    if more.get("half"):
        tree["model"] = {k: v.astype(np.float16) for k, v in golden.state.items()}
    tree["args"] = argparse.Namespace(**tree["args"])
    write_pt(path, tree)
    config = hub.resolve(fairseq_recipe.from_command(command("lstm/bidirectional")).raw)
    start = fairseq_start.start_from(dataclasses.replace(config, init_from=path))
    assert start is not None
    kernel = start.params["decoder"]["fc_out"]["kernel"]
    np.testing.assert_allclose(
        kernel, golden.checkpoint.params["decoder"]["fc_out"]["kernel"], atol=1e-3)
    with pytest.raises(ConfigError, match="holds no optimizer state"):
        fairseq_start.start_from(dataclasses.replace(config, resume_from=path))


# ---- sgd ----


def sgd_tree(momentum, *, slots):
    golden = goldens.load("lstm/bidirectional")
    sizes = {"source_vocab_size": golden.checkpoint.source_vocab_size,
             "target_vocab_size": golden.checkpoint.target_vocab_size}
    state = {"count": np.int32(3)} | ({"momentum_buffer": golden.checkpoint.params}
                                      if slots else {})
    saved = write_state(state, golden.checkpoint.config, lr=0.1, **sizes,
                        optimizer=OptimizerConfig(name="sgd", momentum=momentum))
    args = {**about("lstm/bidirectional")["args"], "arch": "lstm", "criterion": "cross_entropy"}
    return {"args": args, "model": golden.state, "last_optimizer_state": saved,
            "optimizer_history": [{"optimizer_name": "SGD", "num_updates": 3}]}


def test_sgd_without_momentum_goes_on():
    tree = sgd_tree(None, slots=False)
    saved = tree["last_optimizer_state"]
    group = saved["param_groups"][0]
    assert saved["state"] == {}
    assert group["momentum"] == 0 and group["dampening"] == 0 and group["nesterov"] is False
    assert len(group["params"]) == len(tree["model"])
    assert read_state(tree, name="sgd") == {"count": 3}
    assert read_state(tree, name="sgd", momentum=0.0) == {"count": 3}
    # torch writes the buffers that it does not have as None.
    saved["state"] = {i: {"momentum_buffer": None} for i in group["params"]}
    assert read_state(tree, name="sgd") == {"count": 3}


def test_the_first_versions_kept_things_elsewhere():
    tree = sgd_tree(None, slots=False)
    saved = tree.pop("last_optimizer_state")
    assert read_state(tree | {"optimizer": saved}, name="sgd") == {"count": 3}
    tree["optimizer_history"][-1]["optimizer"] = saved
    assert read_state(tree, name="sgd") == {"count": 3}
    for found in ({"epoch": 2, "batch_offset": 5, "val_loss": 1.0},
                  {"extra_state": {"epoch": 2, "batch_offset": 5}},
                  {"extra_state": {"train_iterator": {"epoch": 2, "iterations_in_epoch": 5}}}):
        place = fairseq_start.place_in_data(found)
        assert (place.epoch, place.batch) == (2, 5)
    assert fairseq_start.place_in_data({"epoch": 0}).epoch == 1


def test_sgd_with_momentum_goes_on():
    tree = sgd_tree(0.9, slots=True)
    ours = read_state(tree, name="sgd", momentum=0.9)
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(
            ours["momentum_buffer"]["decoder"]["fc_out"][leaf],
            goldens.load("lstm/bidirectional").checkpoint.params["decoder"]["fc_out"][leaf])


@pytest.mark.parametrize(("momentum", "slots", "name", "asked", "message"), [
    (None, False, "sgd", 0.9, "a momentum of 0: set config.optimizer.momentum=0"),
    (0.9, True, "sgd", None, "a momentum of 0.9: set config.optimizer.momentum=0.9"),
    (0.9, True, "nag", None, r"its optimizer is sgd \(SGD\), not nag"),
    (None, False, "adam", None, "its optimizer is sgd"),
])
def test_another_optimizer_does_not_go_on(momentum, slots, name, asked, message):
    with pytest.raises(ConfigError, match=message):
        read_state(sgd_tree(momentum, slots=slots), name=name, momentum=asked)


def test_a_file_without_optimizer_is_refused():
    tree = sgd_tree(None, slots=False)
    for gone in (None, {}):
        with pytest.raises(ConfigError, match="holds no optimizer state"):
            read_state(tree | {"last_optimizer_state": gone}, name="sgd")


# ---- clusters without dimensions ----


@pytest.fixture
def emptied():
    """A language model whose tails have lost all of their dimensions."""
    golden = goldens.load("transformer_lm/adaptive_softmax")
    found = about("transformer_lm/adaptive_softmax")
    args = {**found["args"], "arch": found["arch"], "tokens_per_sample": 20,
            "criterion": "adaptive_loss", "adaptive_softmax_factor": 64}
    state = dict(golden.state)
    for name, value in golden.state.items():
        if ".tail." in name:
            state[name] = value[:0] if name.endswith(".0.weight") else value[:, :0]
    return goldens.of({"args": args, "model": state}, name="emptied", arrays=golden.arrays,
                      gradients={}, teacher_forced={})


@pytest.mark.filterwarnings("ignore:the adaptive softmax has")
def test_clusters_without_dimensions_load(emptied):
    known = emptied.checkpoint
    written = to_state(known.params, known.config, kept=known.kept, **emptied.sizes)
    assert written.keys() == emptied.state.keys()
    jax.tree.map(np.testing.assert_array_equal, written, dict(emptied.state))
    _, prev, target = emptied.batch()
    features = emptied.model.features(emptied.params, prev)
    lprobs = np.asarray(jax.nn.log_softmax(features.logits()))
    cutoffs = emptied.checkpoint.config.adaptive_softmax_cutoff
    for start, end in zip(cutoffs, (*cutoffs[1:], emptied.checkpoint.target_vocab_size),
                          strict=True):
        np.testing.assert_allclose(  # fairseq's: a softmax over zeros
            lprobs[..., start:end], lprobs[..., start:start + 1].repeat(end - start, -1),
            atol=1e-6)
    np.testing.assert_allclose(np.exp(lprobs).sum(-1), 1, atol=1e-5)
    real = np.asarray(target) != goldens.PAD
    loss = -np.take_along_axis(lprobs, np.asarray(target)[..., None], -1)[real].sum()
    found = adaptive_loss(features.hidden, features.projection, target, pad=goldens.PAD,
                          config=AdaptiveLossConfig(score_every_tail_word=True))
    np.testing.assert_allclose(found.sum, loss, rtol=1e-5)
    np.testing.assert_allclose(goldens.decode_all(emptied, prev)[real], lprobs[real], atol=1e-5)


@pytest.mark.filterwarnings("ignore:the adaptive softmax has")
def test_clusters_without_dimensions_are_trained_and_saved(emptied, tmp_path):
    """They have no parameter here: no optimizer and no checkpoint meets an empty array."""
    fresh = jax.jit(emptied.model.init)(jax.random.key(0))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(
        np.shape, emptied.checkpoint.params)
    assert all(x.size for x in jax.tree.leaves(fresh))
    prev, target = emptied.batch()[1:]
    gradient = jax.grad(lambda p: goldens.loss_of(
        emptied, emptied.model.features(p, prev), target))(emptied.params)
    optimizer = make_optimizer(OptimizerConfig())
    opt_state = optimizer.init(fresh)
    params, opt_state = optimizer.update(gradient, opt_state, emptied.params, jnp.float32(0.1))
    with Checkpoints(tmp_path / "run", CheckpointConfig(asynchronous=False)) as store:
        store.save(new_state(params, optimizer, step=1), Record(step=1, data={}), config={},
                   assets={})
    checkpoint = emptied.checkpoint
    sizes = {"source_vocab_size": checkpoint.source_vocab_size,
             "target_vocab_size": checkpoint.target_vocab_size}
    saved = write_state(jax.device_get(opt_state), checkpoint.config, lr=0.1, **sizes,
                        optimizer=OptimizerConfig())
    shapes = [list(one["exp_avg"].shape) for one in saved["state"].values()]
    assert [0, 10] in shapes or any(0 in shape for shape in shapes)
    tree = {"args": {**checkpoint.fairseq.model}, "model": emptied.state,
            "last_optimizer_state": saved,
            "optimizer_history": [{"optimizer_name": "FairseqAdam", "num_updates": 1}]}
    again = read_state(tree, name="adam")
    jax.tree.map(np.testing.assert_array_equal, again["exp_avg"],
                 jax.device_get(opt_state["exp_avg"]))


def test_clusters_without_dimensions_are_said():
    config = models.CONFIGS["lstm_lm"](decoder_embed_dim=12, adaptive_softmax_cutoff=(6, 9))
    check_softmax_widths.cache_clear()
    with pytest.warns(UserWarning, match="nothing is left for the last 1, whose words are all"):
        models.build(config, source_vocab_size=20, target_vocab_size=20, compute_dtype=np.float32)
