"""Records what fairseq makes of sentences with labels: its tasks `sentence_prediction` and
`sentence_ranking`, the heads of RoBERTa and BART, the losses and their metrics.

Needs fairseq (main branch of 2025), torch, scikit-learn and scipy. Writes into FOLDER:

    python scripts/record_sentence_prediction.py tests/goldens/sentence_prediction

`text/SPLIT.{input0,input1,input2,label}` are made-up sentences and labels, `data-bin` what
fairseq-preprocess makes of them as the recipe for GLUE does, `regression` and `ranking` the label
folders of those tasks. `CASE.npz` has `about` (architecture, its keys, the task's keys, names of
weights and gradients, metrics of the split `valid`), `source` and, of BART, `prev`: the batch of
that split as the task's dataset collates it (of ranking [N, B, S]), `target`, `logits`, `loss`,
`sample_size`, `weights` and `grads`, the norm of each gradient. `trace.json` is a run of
fairseq-train that begins with the weights of the case `roberta`: its `command`, and what it logged
of every update (`train`) and of every validation (`valid`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import types
from typing import Any

import numpy as np
import torch
from fairseq import options
from fairseq.criterions.sentence_prediction import (
    SentencePredictionConfig,
    SentencePredictionCriterion,
)
from fairseq.criterions.sentence_ranking import SentenceRankingCriterion
from fairseq.logging import metrics
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.tasks import sentence_prediction as prediction
from fairseq.tasks.sentence_ranking import SentenceRankingTask
from fairseq_cli import preprocess

_ENCODER = dict(
    encoder_embed_dim=8, encoder_ffn_embed_dim=12, encoder_attention_heads=2, encoder_layers=2)
_DECODER = dict(
    decoder_embed_dim=8, decoder_ffn_embed_dim=12, decoder_attention_heads=2, decoder_layers=2,
    max_source_positions=30, max_target_positions=30)
_PAIR = dict(init_token=0, separator_token=2)
CASES: dict[str, tuple[str, dict, dict]] = {
    "roberta": ("roberta", dict(_ENCODER), dict(_PAIR, num_classes=3)),
    "roberta_single": ("roberta", dict(_ENCODER, pooler_activation_fn="relu"), dict(
        init_token=0, num_classes=3, shorten_method="truncate", max_positions=6, single=True)),
    "roberta_regression": ("roberta", dict(_ENCODER), dict(
        _PAIR, num_classes=1, regression_target=True)),
    "bart": ("bart_base", dict(_ENCODER, **_DECODER), dict(
        init_token=0, num_classes=3, add_prev_output_tokens=True)),
    "bart_regression": ("bart_base", dict(_ENCODER, **_DECODER), dict(
        _PAIR, num_classes=1, regression_target=True, add_prev_output_tokens=True)),
    "ranking": ("roberta", dict(_ENCODER), dict(
        _PAIR, num_classes=2, max_option_length=5)),
}
WORDS = 20
COUNTS = {"train": 40, "valid": 10}


# ---- data ----


def write_text(folder: pathlib.Path) -> None:
    """Sentences of one to six words; the label is told by the first word of the second input."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, count in COUNTS.items():
        rows = [[rng.integers(0, WORDS, rng.integers(1, 7)) for _ in range(3)]
                for _ in range(count)]
        for side in range(3):
            lines = [" ".join(f"w{x}" for x in row[side]) for row in rows]
            (folder / f"{split}.input{side}").write_text("\n".join(lines) + "\n")
        labels = [("no", "maybe", "yes")[int(row[1][0]) % 3] for row in rows]
        (folder / f"{split}.label").write_text("\n".join(labels) + "\n")


def binarize(text: pathlib.Path, out: pathlib.Path) -> None:
    """As examples/roberta/preprocess_GLUE_tasks.sh does; one dictionary for all inputs."""
    whole = out.parent / "whole.input"
    whole.write_text("".join(
        (text / f"train.input{side}").read_text() for side in range(3)))
    _preprocess("--trainpref", whole, "--destdir", out.parent / "dict", "--dict-only")
    both = ["--trainpref", text / "train.{}", "--validpref", text / "valid.{}"]
    for side in ("input0", "input1", "input2", "label"):
        given = [] if side == "label" else ["--srcdict", out.parent / "dict" / "dict.txt"]
        _preprocess(*(str(x).format(side) for x in both), "--destdir", out / side, *given)
        (out / side / "preprocess.log").unlink()
    shutil.rmtree(out.parent / "dict")
    whole.unlink()


def _preprocess(*words: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        args = options.get_preprocessing_parser().parse_args(
            ["--only-source", *map(str, words)])
        preprocess.main(args)


def write_labels(folder: pathlib.Path) -> None:
    """Numbers, and places of the right candidate."""
    rng = np.random.default_rng(1)
    for name, line in (("regression", lambda: f"{rng.integers(0, 26) / 25:.6g}"),
                       ("ranking", lambda: f"{rng.integers(0, 2)}")):
        (folder / name).mkdir(parents=True)
        for split, count in COUNTS.items():
            lines = [line() for _ in range(count)]
            (folder / name / f"{split}.label").write_text("\n".join(lines) + "\n")


# ---- one case ----


def folder_of(kept: pathlib.Path, place: pathlib.Path, keys: dict) -> pathlib.Path:
    """A data folder as the case's task wants it."""
    shutil.copytree(kept / "data-bin", place)
    if keys.get("single"):
        shutil.rmtree(place / "input1")
    for name, when in (("regression", keys.get("regression_target")),
                       ("ranking", "max_option_length" in keys)):
        if when:
            shutil.rmtree(place / "label")
            shutil.copytree(kept / name, place / "label")
    return place


def set_up(arch: str, given: dict, keys: dict, data: pathlib.Path) -> tuple[Any, Any, Any]:
    """Task, model with every parameter moved off its start, and criterion."""
    args = types.SimpleNamespace(**given, data=str(data), task="sentence_prediction")
    if "max_option_length" in keys:
        section = argparse.Namespace(
            data=str(data), criterion="sentence_ranking", seed=1, no_shuffle=True,
            shorten_method="none", shorten_data_split_list="", dataset_impl=None,
            max_positions=30, **keys)
        args.max_positions = 30
        ARCH_CONFIG_REGISTRY[arch](args)
        args._name = args.arch = arch
        task = SentenceRankingTask.setup_task(section)
        with contextlib.redirect_stdout(io.StringIO()):
            from fairseq import models
            model = models.ARCH_MODEL_REGISTRY[arch].build_model(args, task)
            model.register_classification_head("sentence_classification_head", num_classes=1)
        criterion = SentenceRankingCriterion(
            task, "sentence_classification_head", None, keys["num_classes"])
    else:
        own = {k: v for k, v in keys.items() if k != "single"}
        section = prediction.SentencePredictionConfig(**{
            "max_positions": 30, "classification_head_name": "sentence_classification_head",
            "regression_target": False, "seed": 1, "no_shuffle": True, "data": str(data), **own})
        args.max_positions = section.max_positions
        ARCH_CONFIG_REGISTRY[arch](args)
        task = prediction.SentencePredictionTask.setup_task(section)
        from fairseq import models
        model = models.ARCH_MODEL_REGISTRY[arch].build_model(args, task)
        model.register_classification_head(
            section.classification_head_name, num_classes=section.num_classes)
        regression = section.regression_target
        criterion = SentencePredictionCriterion(SentencePredictionConfig(
            regression_target=regression, report_pearson_and_spearman=regression), task)
    for value in model.parameters():
        value.data.add_(0.2 * torch.randn_like(value))
    return task, model.eval(), criterion


def record(arch: str, given: dict, keys: dict, data: pathlib.Path) -> dict[str, Any]:
    """Everything about one case."""
    torch.manual_seed(1)
    task, model, criterion = set_up(arch, given, keys, data)
    task.load_dataset("valid")
    dataset = task.datasets["valid"]
    sample = dataset.collater([dataset[i] for i in range(len(dataset))])
    loss, size, log = criterion(model, sample)
    loss.backward()
    with metrics.aggregate() as found:
        type(criterion).reduce_metrics([log])
    gradients = {k: v.grad.norm() for k, v in model.named_parameters() if v.grad is not None}
    state = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    about = {
        "arch": arch, "args": {**given, "max_positions": keys.get("max_positions", 30)},
        "task": keys, "grads": list(gradients),
        "weights": {name: list(value.shape) for name, value in state.items()},
        "metrics": {k: float(v) for k, v in found.get_smoothed_values().items()
                    if k not in ("pred", "targ")},
    }
    inputs = [sample[k] for k in sorted(sample) if k.startswith("net_input")]
    head = "sentence_classification_head"
    logits = torch.cat([model(**x, classification_head_name=head)[0] for x in inputs], dim=1)
    # Of ranking, rows of both candidates as wide as the wider.
    width = max(x["src_tokens"].shape[1] for x in inputs)
    source = np.stack([np.pad(x["src_tokens"].numpy(), (
        (0, 0), (0, width - x["src_tokens"].shape[1])), constant_values=1) for x in inputs])
    arrays = {
        "about": np.array(json.dumps(about)), "target": sample["target"].numpy(),
        "source": (source if len(inputs) > 1 else source[0]).astype(np.int8),
        "loss": loss.detach().numpy(), "sample_size": np.array(size),
        "ntokens": np.array(sample["ntokens"]), "logits": logits.detach().numpy(),
        "grads": torch.stack(list(gradients.values())).numpy(),
        "weights": torch.cat([value.reshape(-1) for value in state.values()]).numpy(),
    }
    if "prev_output_tokens" in inputs[0]:
        arrays["prev"] = inputs[0]["prev_output_tokens"].numpy().astype(np.int8)
    return arrays


TRACE = (
    "fairseq-train {data} --arch roberta --encoder-embed-dim 8 --encoder-ffn-embed-dim 12 "
    "--encoder-layers 2 --encoder-attention-heads 2 --max-positions 30 --dropout 0 "
    "--attention-dropout 0 --task sentence_prediction --criterion sentence_prediction "
    "--num-classes 3 --init-token 0 --separator-token 2 --report-mcc --max-tokens 100 "
    "--batch-size 4 --required-batch-size-multiple 1 --update-freq 2 --optimizer adam "
    "--adam-betas '(0.9, 0.98)' --adam-eps 1e-6 --lr 0.002 --lr-scheduler polynomial_decay "
    "--warmup-updates 2 --total-num-update 50 --clip-norm 1.0 --max-update 12 "
    "--restore-file {model} --reset-optimizer --reset-dataloader --reset-meters "
    "--best-checkpoint-metric accuracy --maximize-best-checkpoint-metric")
LOGGED = ("num_updates", "loss", "accuracy", "gnorm", "lr", "mcc")


def labelled_by_numbers(kept: pathlib.Path, place: pathlib.Path) -> pathlib.Path:
    """The data with labels 0, 1 and 2, which fairseq's reports need."""
    shutil.copytree(kept / "data-bin", place)
    names = place / "label" / "dict.txt"
    text = names.read_text()
    for number, name in enumerate(("no", "maybe", "yes")):
        text = text.replace(f"{name} ", f"{number} ")
    names.write_text(text)
    return place


def trace(kept: pathlib.Path, scratch: pathlib.Path) -> dict[str, Any]:
    """A run of fairseq's from the recorded weights."""
    with np.load(kept / "roberta.npz") as recorded:
        about, flat, state, at = json.loads(str(recorded["about"])), recorded["weights"], {}, 0
    for key, shape in about["weights"].items():
        size = int(np.prod(shape))
        state[key] = torch.tensor(flat[at : at + size].reshape(shape))
        at += size
    data, model = labelled_by_numbers(kept, scratch / "data"), scratch / "model.pt"
    torch.save({
        "args": argparse.Namespace(**about["args"], arch="roberta", task="sentence_prediction",
                                   criterion="sentence_prediction"),
        "model": state, "optimizer_history": [{"criterion_name": "", "optimizer_name": "",
                                               "lr_scheduler_state": {}, "num_updates": 0}],
        "extra_state": {}, "last_optimizer_state": None}, model)
    words = shlex.split(TRACE.format(data=data, model=model))[1:]
    done = subprocess.run(
        [sys.executable, "-m", "fairseq_cli.train", *words, "--cpu", "--no-save", "--num-workers",
         "0", "--log-format", "json", "--log-interval", "1"], capture_output=True, text=True)
    found: dict[str, Any] = {"command": TRACE, "train": [], "valid": []}
    for line in re.findall(r"\{.*\}", done.stdout + done.stderr):
        values = json.loads(line) if '"' in line else {}
        kind = "valid" if "valid_loss" in values else "train"
        if "num_updates" in values or kind == "valid":
            found[kind].append({key: float(values[name]) for key in LOGGED
                                if (name := f"valid_{key}" if kind == "valid" else key) in values})
    if len(found["train"]) != 12:
        raise RuntimeError(done.stderr[-2000:])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Record sentence prediction with fairseq.")
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    write_text(folder / "text")
    binarize(folder / "text", folder / "data-bin")
    write_labels(folder)
    for name, (arch, given, keys) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            data = folder_of(folder, pathlib.Path(scratch) / "data", keys)
            np.savez_compressed(
                folder / f"{name}.npz", allow_pickle=False, **record(arch, given, keys, data))
        print(name, (folder / f"{name}.npz").stat().st_size)
    with tempfile.TemporaryDirectory() as scratch:
        found = trace(folder, pathlib.Path(scratch))
    (folder / "trace.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
