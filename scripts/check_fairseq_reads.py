"""Asks fairseq itself whether it reads what we write: every family, loss, optimizer, schedule.

Run before each release. Two environments: seqjax writes, fairseq (main branch of 2025, with
torch) reads and goes on training, and seqjax reads what came of that.

    python scripts/check_fairseq_reads.py write FOLDER [CASE ...]    # with seqjax
    python scripts/check_fairseq_reads.py read FOLDER [CASE ...]     # where fairseq imports
    python scripts/check_fairseq_reads.py back FOLDER [CASE ...]     # with seqjax
    python scripts/check_fairseq_reads.py again FOLDER [CASE ...]    # where fairseq imports

`write` makes a little data, turns each case's fairseq-train command into a configuration
(`convert args`), makes a model whose optimizer has a state, and writes FOLDER/CASE.pt by
`convert --optimizer-state`, once more by way of `.pt` -> folder -> `.pt`, with the
log-probabilities of a batch. `read` loads both with `load_model_ensemble_and_task`, compares
the log-probabilities, and lets the very command go on with `--restore-file`. `back` loads
what fairseq saved then: log-probabilities, and the state of the optimizer under the
configuration of the same command; and sends it by way of a folder to a new `.pt`, of which
`again` asks fairseq whether it is the model that it saved. A line per case; the exit status
is 1 where any fails.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

TOLERANCE = 2e-5
UPDATES = 3  # that a file claims to have been trained for
_T = "--task translation -s aa -t bb --max-tokens 200"
_L = "--task language_modeling --tokens-per-sample 16 --max-tokens 200"
_CE = "--criterion cross_entropy"
_SMOOTH = "--criterion label_smoothed_cross_entropy --label-smoothing 0.1"
_ADAPTIVE = "--criterion adaptive_loss --ddp-backend legacy_ddp"
_ADAM = "--optimizer adam --adam-betas '(0.9, 0.98)' --lr 0.001 --weight-decay 0.01"
_NAG = "--optimizer nag --momentum 0.9 --lr 0.01"
_SGD = "--optimizer sgd --lr 0.01"
_ROOT = "--lr-scheduler inverse_sqrt --warmup-updates 10 --warmup-init-lr 1e-7"
_POLY = "--lr-scheduler polynomial_decay --warmup-updates 2 --total-num-update 50"
_COSINE = "--lr-scheduler cosine --warmup-updates 2 --lr-period-updates 20"
_TRI = "--lr-scheduler tri_stage --warmup-steps 2 --hold-steps 3 --decay-steps 20"
_FIXED = "--lr-scheduler fixed --force-anneal 3 --lr-shrink 0.5"


def _sides(extra: str = "", *, dim: int = 16) -> str:
    return " ".join(
        f"--{side}-embed-dim {dim} --{side}-ffn-embed-dim 24 --{side}-layers 2 "
        f"--{side}-attention-heads 2" for side in ("encoder", "decoder")) + " " + extra


_LM = ("--decoder-embed-dim 16 --decoder-input-dim 16 --decoder-output-dim 16 "
       "--decoder-ffn-embed-dim 24 --decoder-layers 2 --decoder-attention-heads 2")
_BANDS = ("--adaptive-input --adaptive-input-cutoff 20,35 --adaptive-softmax-cutoff 20,35 "
          "--adaptive-input-factor 2 --adaptive-softmax-factor 2")
_ENCODER = ("--encoder-embed-dim 16 --encoder-ffn-embed-dim 24 --encoder-layers 2 "
            "--encoder-attention-heads 2 --max-positions 32")
_HEAD = "sentence_classification_head"
_S = ("--task sentence_prediction --criterion sentence_prediction --num-classes 2 --init-token 0 "
      "--max-tokens 200")
_LSTM = ("--encoder-embed-dim 12 --decoder-embed-dim 12 --decoder-out-embed-dim 10 "
         "--encoder-layers 2 --decoder-layers 2")
_FCONV = ("--encoder-embed-dim 12 --decoder-embed-dim 12 --decoder-out-embed-dim 10 "
          "--encoder-layers '[(12, 3)] * 2' --decoder-layers '[(12, 3)] * 2'")
_LIGHT = _sides("--encoder-kernel-size-list '[3,7]' --decoder-kernel-size-list '[3,5]'")

CASES: dict[str, str] = {
    "transformer": f"--arch transformer {_sides()} {_T} {_SMOOTH} {_ADAM} {_ROOT}",
    "transformer_iwslt": "--arch transformer_iwslt_de_en --share-all-embeddings "
                         f"{_sides('--encoder-normalize-before --decoder-normalize-before')} "
                         f"--decoder-learned-pos {_T} {_CE} --sentence-avg {_SGD} {_FIXED}",
    "transformer_options": f"--arch transformer {_sides('--decoder-output-dim 12')} "
                           "--layernorm-embedding --no-scale-embedding --activation-fn gelu "
                           f"--no-token-positional-embeddings {_T} {_CE} {_ADAM} {_TRI}",
    "transformer_adaptive": f"--arch transformer {_sides('--adaptive-softmax-cutoff 20,35')} "
                            f"{_T} {_ADAPTIVE} {_NAG} {_COSINE}",
    "transformer_cross": f"--arch transformer {_sides('--cross-self-attention')} {_T} {_SMOOTH} "
                         f"--optimizer sgd --lr 0.01 --momentum 0.9 {_POLY} --label-smoothing 0",
    "transformer_adafactor": f"--arch transformer_tiny {_sides()} {_T} {_SMOOTH} "
                             f"--optimizer adafactor --lr 0.01 {_ROOT}",
    "transformer_align": f"--arch transformer_align {_sides('--alignment-layer 1')} {_T} "
                         "--load-alignments --alignment-heads 1 --label-smoothing 0.1 "
                         "--criterion label_smoothed_cross_entropy_with_alignment "
                         f"--alignment-lambda 0.05 {_ADAM} {_ROOT}",
    "lstm": f"--arch lstm {_LSTM} {_T} {_SMOOTH} {_ADAM} {_ROOT}",
    "lstm_options": f"--arch lstm {_LSTM} --encoder-bidirectional --encoder-hidden-size 8 "
                    "--decoder-attention False --decoder-hidden-size 14 "
                    f"{_T} {_CE} {_NAG} {_FIXED}",
    "lstm_adaptive": f"--arch lstm {_LSTM} --adaptive-softmax-cutoff 20,35 {_T} {_ADAPTIVE} "
                     f"{_SGD} {_POLY}",
    "lstm_wiseman": f"--arch lstm_wiseman_iwslt_de_en {_LSTM} {_T} {_CE} {_ADAM} {_TRI}",
    "fconv": f"--arch fconv {_FCONV} {_T} {_SMOOTH} {_NAG} {_FIXED}",
    "fconv_options": f"--arch fconv_iwslt_de_en {_FCONV} --decoder-attention '[True, False]' "
                     f"{_T} {_CE} {_ADAM} {_ROOT}",
    "lightconv": f"--arch lightconv {_LIGHT} --encoder-conv-type lightweight "
                 f"--decoder-conv-type lightweight {_T} {_SMOOTH} {_ADAM} {_ROOT}",
    "lightconv_dynamic": f"--arch lightconv_iwslt_de_en {_LIGHT} --share-all-embeddings "
                         "--encoder-normalize-before --weight-softmax False "
                         f"{_T} {_CE} {_SGD} {_COSINE}",
    "transformer_lm": f"--arch transformer_lm {_LM} {_L} {_CE} {_ADAM} {_ROOT}",
    "transformer_lm_gpt": f"--arch transformer_lm_gpt {_LM} --share-decoder-input-output-embed "
                          f"{_L} --sample-break-mode eos {_CE} {_NAG} {_COSINE}",
    "transformer_lm_softmax": f"--arch transformer_lm {_LM} --adaptive-softmax-cutoff 20,35 "
                              f"--decoder-normalize-before {_L} {_ADAPTIVE} {_SGD} {_FIXED}",
    "transformer_lm_tied": f"--arch transformer_lm_gbw {_LM} {_BANDS} --tie-adaptive-weights "
                           f"--tie-adaptive-proj {_L} {_ADAPTIVE} {_ADAM} {_POLY}",
    "transformer_lm_empty": f"--arch transformer_lm {_LM} --adaptive-softmax-cutoff 20,28,35 "
                            f"--adaptive-softmax-factor 8 {_L} {_ADAPTIVE} {_ADAM} {_ROOT}",
    "transformer_lm_scales": f"--arch transformer_lm {_LM} --scale-attn --scale-fc --scale-heads "
                             f"--scale-resids --add-bos-token {_L} {_CE} {_ADAM} {_TRI}",
    "transformer_lm_shorten": f"--arch transformer_lm {_LM} --shorten-method truncate "
                              f"--shorten-data-split-list train,valid {_L} {_CE} {_ADAM} {_ROOT}",
    "lstm_lm": "--arch lstm_lm --decoder-embed-dim 12 --decoder-out-embed-dim 10 "
               f"--decoder-layers 2 {_L} {_CE} {_ADAM} {_ROOT}",
    "lstm_lm_adaptive": "--arch lstm_lm --decoder-embed-dim 12 --decoder-out-embed-dim 12 "
                        "--adaptive-softmax-cutoff 20,35 --decoder-layers 2 --residuals "
                        f"{_L} {_ADAPTIVE} {_NAG} {_FIXED}",
    "fconv_lm": "--arch fconv_lm --decoder-embed-dim 12 --decoder-layers '[(12, 3)] * 2' "
                f"{_L} {_CE} {_SGD} {_FIXED}",
    "fconv_lm_adaptive": "--arch fconv_lm --decoder-embed-dim 12 --decoder-layers "
                         "'[(12, 3)] * 2' --adaptive-softmax-cutoff 20,35 "
                         f"{_L} {_ADAPTIVE} {_NAG} {_FIXED}",
    "lightconv_lm": f"--arch lightconv_lm {_LM} --decoder-kernel-size-list '[3,5]' "
                    f"{_L} {_CE} {_ADAM} {_ROOT}",
    "roberta_classes": f"--arch roberta_base {_ENCODER} {_S} --separator-token 2 "
                       f"--pooler-dropout 0.1 {_ADAM} {_POLY}",
    "roberta_ranking": f"--arch roberta_base {_ENCODER} --task sentence_ranking --criterion "
                       "sentence_ranking --num-classes 2 --init-token 0 --separator-token 2 "
                       f"--max-tokens 200 {_ADAM} {_POLY}",
    "bart_classes": f"--arch bart_base {_sides()} {_S} --add-prev-output-tokens "
                    f"--pooler-activation-fn relu {_ADAM} {_POLY}",
    "lightconv_lm_tied": f"--arch lightconv_lm {_LM} {_BANDS} --tie-adaptive-weights "
                         "--decoder-kernel-size-list '[3]' --decoder-conv-type lightweight "
                         f"{_L} {_ADAPTIVE} {_ADAM} {_ROOT}",
}
"""Commands of fairseq's, without their data."""
_SCALES: dict[str, Any] = {
    "scale_attn": True, "scale_fc": True, "scale_heads": True, "scale_resids": True}
ONLY_READ: dict[str, dict[str, Any]] = {
    "transformer_scales": _SCALES,
    "transformer_merged": {"merge_src_tgt_embed": True},
    "transformer_early": {"encoder_normalize_before": True, "no_encoder_final_norm": True,
                          "decoder_normalize_before": True, "no_decoder_final_norm": True},
}
"""Models for whose keys fairseq-train has no option: keys on top of the case `transformer`."""


_KINDS = {"language_modeling": "lm", "sentence_prediction": "classes",
          "sentence_ranking": "ranking"}
"""Task -> its data folder; of others it is `pair`."""


def command(name: str, folder: pathlib.Path) -> str:
    """The whole command of a case."""
    flags = CASES["transformer" if name in ONLY_READ else name]
    kind = next((kind for word, kind in _KINDS.items() if f"--task {word}" in flags), "pair")
    return f"fairseq-train {shlex.quote(str(folder / kind))} {flags}"


# ---- seqjax writes ----


def make_data(folder: pathlib.Path) -> None:
    """`folder/pair`, `folder/lm`, `folder/classes` and `folder/ranking`, by our preprocess: words
    that stand for numbers."""
    from seqjax import preprocess

    if (folder / "lm").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 200), ("valid", 20)):
        rows = [rng.integers(0, 44, rng.integers(2, 9)) for _ in range(count)]
        for suffix, line in (
                ("aa", lambda r: " ".join(f"w{x}" for x in r)),
                ("bb", lambda r: " ".join(f"w{(x + 5) % 44}" for x in r)),
                ("align", lambda r: " ".join(f"{i}-{i}" for i in range(len(r))))):
            text = "\n".join(map(line, rows)) + "\n"
            (folder / f"{split}.{suffix}").write_text(text, encoding="utf-8")
    both = ["--trainpref", f"{folder}/train", "--validpref", f"{folder}/valid"]
    preprocess.main(["-s", "aa", "-t", "bb", *both, "--destdir", f"{folder}/pair",
                     "--joined-dictionary", "--align-suffix", "align"])
    preprocess.main(["--only-source", "--trainpref", f"{folder}/train.aa",
                     "--validpref", f"{folder}/valid.aa", "--destdir", f"{folder}/lm"])
    for task, kind in list(_KINDS.items())[1:]:
        text = folder / f"{kind}.text"
        text.mkdir()
        for split in ("train", "valid"):
            lines = (folder / f"{split}.aa").read_text(encoding="utf-8").splitlines()
            for side in range(3 if kind == "ranking" else 2):
                moved = lines[side:] + lines[:side]
                (text / f"{split}.input{side}").write_text("\n".join(moved) + "\n")
            labels = [str(int(line[-1]) % 2) for line in lines]
            (text / f"{split}.label").write_text("\n".join(labels) + "\n")
        preprocess.main(["--task", task, "--trainpref", f"{text}/train", "--validpref",
                         f"{text}/valid", "--destdir", f"{folder}/{kind}"])


def configuration(name: str, folder: pathlib.Path) -> Any:
    """What `convert args` makes of a case."""
    from seqjax import hub
    from seqjax.interop.fairseq import recipe as fairseq_recipe

    raw = fairseq_recipe.from_command(command(name, folder)).raw
    raw["model"] = raw["model"] | ONLY_READ.get(name, {})
    return hub.resolve(raw)


def write(folder: pathlib.Path, name: str) -> str:
    """CASE.pt, CASE.again.pt (by way of a folder) and CASE.npz."""
    import jax
    import jax.numpy as jnp

    import seqjax
    from seqjax import checkpoints, convert, models, tasks
    from seqjax.config import CheckpointConfig, to_plain
    from seqjax.training import optimizers
    from seqjax.training.checkpoints import Checkpoints
    from seqjax.training.state import new_state

    config = configuration(name, folder)
    task = tasks.setup(config)
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=jnp.float32)
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(1)
    optimizer = optimizers.make_optimizer(config.optimizer)
    opt_state, lr = optimizer.init(params), jnp.float32(0.01)
    for _ in range(UPDATES):
        noise = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)
        params, opt_state = optimizer.update(noise, opt_state, params, lr)
    state = dataclasses.replace(
        new_state(params, optimizer, step=UPDATES), opt_state=opt_state)
    run = folder / f"{name}.run"
    for old in (run, folder / f"{name}.again"):
        shutil.rmtree(old, ignore_errors=True)
    with Checkpoints(run, CheckpointConfig(asynchronous=False)) as store:
        store.save(state, checkpoints.Record(step=UPDATES, data={"epoch": 1, "batch": UPDATES}),
                   config={**to_plain(config), "task": to_plain(task.config)},
                   assets=task.assets())
    moments = config.optimizer.name != "adafactor"  # whose state is not written
    convert.main([str(run), str(folder / f"{name}.pt"),
                  *(["--optimizer-state"] if moments else [])])
    convert.main([str(folder / f"{name}.pt"), str(folder / f"{name}.again"),
                  "--data", config.task.data])
    convert.main([str(folder / f"{name}.again"), str(folder / f"{name}.again.pt")])
    sources = [[int(x) for x in rng.integers(4, 40, n)] + [2] for n in (6, 6, 6)]
    previous = [[2, *row[:-1]] for row in sources]
    lprobs = ours(seqjax.load(run), sources, previous)
    np.savez(folder / f"{name}.npz", sources=sources, previous=previous, lprobs=lprobs)
    return "written"


def ours(loaded: Any, sources: list[list[int]], previous: list[list[int]]) -> np.ndarray:
    """What our model says of a batch: log-probabilities, or logits of its head."""
    if getattr(loaded, "classification_heads", None):
        rows = [[0, *row] for row in sources]
        return loaded.predict(_HEAD, rows, return_logits=True)
    batch = [previous] if loaded.task.languages is None else [sources, previous]
    return np.asarray(loaded.log_probs(*batch))


# ---- fairseq reads ----


def log_probs(path: pathlib.Path, data: str, arrays: Any) -> np.ndarray:
    """fairseq's log-probabilities of a batch."""
    import torch
    from fairseq import checkpoint_utils

    members, _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(path)], arg_overrides={"data": data})
    model = members[0].eval()
    previous = torch.tensor(arrays["previous"])
    if getattr(model, "classification_heads", None):
        rows = torch.tensor([[0, *row] for row in arrays["sources"].tolist()])
        with torch.no_grad():
            return model(
                src_tokens=rows, src_lengths=torch.full((len(rows),), rows.shape[1]),
                prev_output_tokens=torch.roll(rows, 1, dims=1), features_only=True,
                classification_head_name=_HEAD)[0].numpy()
    if hasattr(model, "encoder"):
        sources = torch.tensor(arrays["sources"])
        lengths = torch.full((len(sources),), sources.shape[1])
        output = model(sources, lengths, previous)
    else:
        output = model(previous)
    with torch.no_grad():
        return model.get_normalized_probs(output, log_probs=True, sample=None).numpy()


def read(folder: pathlib.Path, name: str) -> str:
    """Loads, compares, and goes on training; the new file is CASE.fairseq.pt."""
    import torch
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq_cli import train

    logging.disable(logging.ERROR)
    words = shlex.split(command(name, folder))[1:]
    worst = 0.0
    with np.load(folder / f"{name}.npz") as arrays:
        for suffix in ("pt", "again.pt"):
            found = log_probs(folder / f"{name}.{suffix}", words[0], arrays)
            worst = max(worst, float(np.abs(found - arrays["lprobs"]).max()))
    if not worst <= TOLERANCE:
        raise AssertionError(f"log-probabilities differ by {worst:.1e}")
    if name in ONLY_READ:
        return f"log-probabilities {worst:.0e}"
    saved = folder / f"{name}.saved"
    shutil.rmtree(saved, ignore_errors=True)
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, [
        *words, "--restore-file", str(folder / f"{name}.pt"), "--save-dir", str(saved), "--cpu",
        "--max-update", str(UPDATES + 2), "--disable-validation", "--num-workers", "0",
        "--log-format", "none"])
    train.main(convert_namespace_to_omegaconf(args))
    tree = torch.load(saved / "checkpoint_last.pt", weights_only=False)
    began = torch.load(folder / f"{name}.pt", weights_only=False)
    number = tree["optimizer_history"][-1]["num_updates"]
    expected = UPDATES + 2 if began["last_optimizer_state"] is not None else None
    if expected is not None and number != expected:
        raise AssertionError(f"fairseq went on to update {number}, not {expected}")
    model = convert_namespace_to_omegaconf(args).model
    return f"log-probabilities {worst:.0e}, goes on to update {number} ({model._name})"


# ---- seqjax reads what came of it ----


def back(folder: pathlib.Path, name: str) -> str:
    """Weights and optimizer of fairseq's file, under the configuration of the command."""
    import seqjax
    from seqjax import convert
    from seqjax.interop.fairseq import start as fairseq_start

    if name in ONLY_READ:
        return "not trained by fairseq"

    path = str(folder / f"{name}.saved" / "checkpoint_last.pt")
    config = configuration(name, folder)
    loaded = seqjax.load(path, data=config.task.data)
    with np.load(folder / f"{name}.npz") as arrays:
        previous, sources = arrays["previous"].tolist(), arrays["sources"].tolist()
    if not np.isfinite(ours(loaded, sources, previous)).all():
        raise AssertionError("log-probabilities are not finite")
    shutil.rmtree(folder / f"{name}.back", ignore_errors=True)
    convert.main([path, str(folder / f"{name}.back"), "--data", config.task.data])
    convert.main([str(folder / f"{name}.back"), str(folder / f"{name}.back.pt")])
    fairseq_start.start_from(dataclasses.replace(config, init_from=path))
    if config.optimizer.name == "adafactor":
        return "loaded; begins from it"
    start = fairseq_start.start_from(dataclasses.replace(config, resume_from=path))
    assert start is not None
    return f"loaded; goes on from update {start.step}"


# ---- fairseq reads what came back ----


def again(folder: pathlib.Path, name: str) -> str:
    """Its own file, and that file by way of a folder of ours."""
    if name in ONLY_READ:
        return "not trained by fairseq"
    data = shlex.split(command(name, folder))[1]
    with np.load(folder / f"{name}.npz") as arrays:
        one, other = (log_probs(path, data, arrays) for path in (
            folder / f"{name}.saved" / "checkpoint_last.pt", folder / f"{name}.back.pt"))
    if not np.array_equal(one, other):
        raise AssertionError(f"log-probabilities differ by {np.abs(one - other).max():.1e}")
    return "the same model"


SIDES: dict[str, Callable[[pathlib.Path, str], str]] = {
    "write": write, "read": read, "back": back, "again": again}


def main(arguments: list[str]) -> int:
    side, folder, names = arguments[0], pathlib.Path(arguments[1]).resolve(), arguments[2:]
    if side == "write":
        make_data(folder)
    failed = []
    names = names or [*CASES, *ONLY_READ]
    for name in names:
        try:
            print(f"{name:24}{SIDES[side](folder, name)}", flush=True)
        except Exception as error:
            failed.append(name)
            last = traceback.format_exc().strip().splitlines()[-1]
            print(f"{name:24}FAILED {type(error).__name__}: {last[:300]}", flush=True)
            (folder / f"{name}.{side}.txt").write_text(traceback.format_exc(), encoding="utf-8")
    print(json.dumps({"side": side, "cases": len(names), "failed": failed}))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
