"""The recipes of configs/: each resolves, is what its docstring says, and makes an update."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import pathlib
import re
import shlex
from typing import Any

import jax
import numpy as np
import pytest
import tiny_run
import tiny_text

from seqjax import config as configuration
from seqjax import convert, evaluate, generate, models, preprocess, score, settings, train
from seqjax.data.indexed import IndexedWriter
from seqjax.data.pipeline import epoch_batches
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.training import checks
from seqjax.training.parts import prepare

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
RECIPES = sorted(f.stem for f in CONFIGS.glob("*.py"))
VARIANTS = {
    "roberta_glue": ("MNLI", "QNLI", "QQP", "RTE", "SST-2", "MRPC", "CoLA", "STS-B"),
    "wmt14_en_de": ("base", "big"), "bart_cnn_dm": ("cnn_dm", "xsum"),
}
"""What may follow a recipe's name behind a colon."""
VERBS: dict[str, Any] = {
    "preprocess": lambda words: preprocess.parser().parse_args(words),
    "train": lambda words: train.parse(words), "generate": generate.parse,
    "evaluate": evaluate.parse, "score": score.parse, "convert": convert.parse}


def load(name: str, variant: str = "") -> dict[str, Any]:
    return configuration.load_file(f"{CONFIGS / name}.py" + (f":{variant}" if variant else ""))


def docstring(name: str) -> str:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", CONFIGS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__doc__
    return module.__doc__


def commands(text: str) -> list[list[str]]:
    """Commands of ours in a docstring, as words behind `python -m`."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"python -m (seqjax\.[^\n#;`]*)", joined)
    return [shlex.split(line.partition(" > ")[0]) for line in found]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_resolves_and_says_what_it_is(name):
    """Paper, score and commands; these have flags that there are, and settings that resolve."""
    for variant in VARIANTS.get(name, ("",)):
        checks.check(settings.resolve(load(name, variant)))
    text = docstring(name)
    assert "Expected:" in text and "Data:" in text
    if name == "quickstart":
        return  # of which launch/demo.sh has the commands
    assert "Paper:" in text or "Source:" in text
    found = commands(text)
    verbs = [words[0].removeprefix("seqjax.") for words in found]
    assert "preprocess" in verbs and "train" in verbs
    for verb, (_, *words) in zip(verbs, found, strict=True):
        parsed = VERBS[verb](words)
        if verb == "train":
            args, overrides = parsed
            assert f"configs/{name}.py" in args.config
            raw = configuration.load_file(args.config.replace("configs/", f"{CONFIGS}/"))
            checks.check(settings.resolve(configuration.apply_overrides(raw, overrides)))


SIZES = {
    "bart_base": (139, 50265), "bart_cnn_dm": (406, 50265), "gpt2_packed": (124, 50257),
    "mbart_en_ro": (610, 250027), "roberta_base": (125, 50265), "roberta_glue": (125, 50265),
    "wikitext103_adaptive": (247, 267744), "iwslt14_de_en": (39.5, (8848, 6632)),
}
"""Millions of parameters that the docstring says, and words of the dictionaries."""


@pytest.mark.parametrize("name", SIZES)
def test_models_have_as_many_parameters_as_is_said(name):
    millions, words = SIZES[name]
    source, target = words if isinstance(words, tuple) else (words, words)
    model = models.build(settings.resolve(load(name)).model, source_vocab_size=source,
                         target_vocab_size=target, compute_dtype=np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(
        {key: value for key, value in shapes.items() if key != "classification_heads"}))
    assert abs(count / 1e6 - millions) < 0.006 * millions
    if name not in ("roberta_glue",):
        assert f"{millions:g} M parameters" in docstring(name) or f"{millions} million" in (
            docstring(name))


FAIRSEQ = {
    ("wikitext103_adaptive", ""):
        "data-bin/wikitext-103 --task language_modeling --arch transformer_lm_wiki103 --max-update "
        "286000 --lr 1.0 --t-mult 2 --lr-period-updates 270000 --lr-scheduler cosine --lr-shrink "
        "0.75 --warmup-updates 16000 --warmup-init-lr 1e-07 --stop-min-lr 1e-09 --optimizer nag "
        "--min-lr 0.0001 --clip-norm 0.1 --criterion adaptive_loss --max-tokens 3072 --update-freq "
        "24 --tokens-per-sample 3072 --seed 1 --sample-break-mode none "
        "--skip-invalid-size-inputs-valid-test",
    ("bart_cnn_dm", "cnn_dm"):
        "data-bin/cnn_dm --restore-file bart.large/model.pt --max-tokens 2048 --task translation "
        "--source-lang source --target-lang target --truncate-source --layernorm-embedding "
        "--share-all-embeddings --share-decoder-input-output-embed --reset-optimizer "
        "--reset-dataloader --reset-meters --required-batch-size-multiple 1 --arch bart_large "
        "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 --dropout 0.1 "
        "--attention-dropout 0.1 --weight-decay 0.01 --optimizer adam --adam-betas (0.9,0.999) "
        "--adam-eps 1e-08 --clip-norm 0.1 --lr-scheduler polynomial_decay --lr 3e-5 "
        "--total-num-update 20000 --warmup-updates 500 --update-freq 32 --max-update 20000 "
        "--skip-invalid-size-inputs-valid-test",
    ("roberta_glue", "RTE"):
        "data-bin/RTE --max-positions 512 --batch-size 16 --max-tokens 4400 --task "
        "sentence_prediction --required-batch-size-multiple 1 --init-token 0 --separator-token 2 "
        "--arch roberta_base --criterion sentence_prediction --num-classes 2 --dropout 0.1 "
        "--attention-dropout 0.1 --weight-decay 0.1 --optimizer adam --adam-betas (0.9,0.98) "
        "--adam-eps 1e-06 --clip-norm 0.0 --lr-scheduler polynomial_decay --lr 2e-5 "
        "--total-num-update 2036 --warmup-updates 122 --max-update 2036 --max-epoch 10",
    ("mbart_en_ro", ""):
        "data-bin/wmt16.en-ro --encoder-normalize-before --decoder-normalize-before --arch "
        "mbart_large --layernorm-embedding --task translation_from_pretrained_bart --source-lang "
        "en_XX --target-lang ro_RO --criterion label_smoothed_cross_entropy --label-smoothing 0.2 "
        "--optimizer adam --adam-eps 1e-06 --adam-betas (0.9,0.98) --lr-scheduler "
        "polynomial_decay --lr 3e-05 --warmup-updates 2500 --total-num-update 40000 --max-update "
        "40000 --dropout 0.3 --attention-dropout 0.1 --weight-decay 0.0 --max-tokens 1024 "
        "--update-freq 2 --seed 222 --restore-file mbart.cc25/model.pt --reset-optimizer "
        "--reset-meters --reset-dataloader --reset-lr-scheduler --langs ar_AR,cs_CZ,de_DE,en_XX,"
        "es_XX,et_EE,fi_FI,fr_XX,gu_IN,hi_IN,it_IT,ja_XX,kk_KZ,ko_KR,lt_LT,lv_LV,my_MM,ne_NP,"
        "nl_XX,ro_RO,ru_RU,si_LK,tr_TR,vi_VN,zh_CN",
}
"""fairseq's own commands; where it counts what each of 8 GPUs does, `--update-freq` is 8 times
that."""


@pytest.mark.parametrize(("name", "variant"), FAIRSEQ)
def test_recipes_are_fairseqs_commands(name, variant):
    """Every key of what is learned and how, but for what is stated beside the command."""
    command = f"fairseq-train {FAIRSEQ[name, variant]}".replace("(", "'(").replace(")", ")'")
    theirs = settings.resolve(fairseq_recipe.from_command(command).raw)
    ours = settings.resolve(load(name, variant))
    different = {}
    for section in ("task", "model", "loss", "optimizer", "schedule", "train"):
        a, b = (configuration.to_plain(getattr(c, section)) for c in (ours, theirs))
        different |= {f"{section}.{k}": (a[k], b[k]) for k in a if a[k] != b[k]}
    different.pop("train.compute_dtype", None)  # fairseq's command is of float32 without --fp16
    different.pop("task.post_process", None)  # of sampled outputs
    different.pop("model.pooler_dropout", None)
    assert not different
    assert ours.init_from == theirs.init_from and ours.seed == theirs.seed
    for key in ("max_tokens", "max_sentences"):
        assert getattr(ours.batching, key) == getattr(theirs.batching, key)


# ---- one update ----


def shrunken(name: str, data: pathlib.Path) -> dict[str, Any]:
    """A recipe with its model, its blocks and its batches made small; all else is as it was."""
    raw = load(name)
    plain = configuration.to_plain(settings.resolve(raw).model)
    ends = {"_embed_dim": 16, "_layers": 1, "attention_heads": 2, "_positions": 64}
    small = {key: size for key, value in plain.items() for end, size in ends.items()
             if f"_{key}".endswith(end) and type(value) is int}
    small |= {key: [8, 14] for key, value in plain.items() if key.endswith("_cutoff") and value}
    raw["model"] = {**raw["model"], **small, "scan_unroll": 1}
    task = {**raw["task"], "data": str(data)}
    task |= {"tokens_per_sample": 24} if "tokens_per_sample" in task else {}
    task |= {"bpe": "none"} if "bpe" in task else {}  # there is no tokenizer to know words by
    batching = {**raw["batching"], "backend": "numpy", "num_shapes": 1}
    batching |= {"max_tokens": 384, "max_sentences": 16, "required_batch_size_multiple": 8}
    batching |= {"pack_length": 24} if batching["mode"] == "packed" else {}
    return {**raw, "init_from": None, "task": task, "batching": batching,
            "train": {**raw["train"], "update_freq": 1, "compute_dtype": "float32"},
            "valid": {"enabled": False}}


def write_pairs(folder: pathlib.Path, task: dict[str, Any]) -> pathlib.Path:
    """Sentence pairs under the languages of a task, with one dictionary."""
    tiny_run.write_data(folder)
    for old, key in (("aa", "source_lang"), ("bb", "target_lang")):
        for path in folder.glob(f"*aa-bb.{old}.*"):
            pair = f"{task['source_lang']}-{task['target_lang']}"
            path.rename(folder / path.name.replace(f"aa-bb.{old}", f"{pair}.{task[key]}"))
        (folder / f"dict.{old}.txt").rename(folder / f"dict.{task[key]}.txt")
    target, source = (folder / f"dict.{task[f'{side}_lang']}.txt" for side in (
        "target", "source"))
    target.write_bytes(source.read_bytes())
    return folder


def write_sentences(folder: pathlib.Path) -> pathlib.Path:
    """Pairs of sentences with two classes, as fairseq's recipe for GLUE leaves them."""
    for name in ("input0", "input1", "label"):
        (folder / name).mkdir(parents=True)
        words = ["no", "yes"] if name == "label" else [f"w{i}" for i in range(20)]
        Vocabulary(words).save(folder / name / "dict.txt")
        with IndexedWriter(folder / name / "train", dtype=np.dtype(np.uint16)) as out:
            for number in range(48):
                length = 1 if name == "label" else 5
                out.append(np.append(4 + (number + np.arange(length)) % len(words), 2))
    return folder


def data_of(raw: dict[str, Any], place: pathlib.Path) -> pathlib.Path:
    name = raw["task"]["name"]
    if name == "sentence_prediction":
        return write_sentences(place)
    if name.startswith("translation"):
        return write_pairs(place, raw["task"])
    return tiny_text.write_text(place)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_an_update(name, tmp_path):
    """Its task, model, loss, optimizer, schedule and batches on a little corpus: the loss is a
    number, and parameters change."""
    config = settings.resolve(shrunken(name, data_of(load(name), tmp_path / "data")))
    parts = prepare(config)
    batch = next(iter(epoch_batches(parts.plan.epoch(1), parts.dataset)))
    rng, shapes = np.random.default_rng(0), jax.eval_shape(parts.fresh_state)
    before = jax.tree.map(
        lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), shapes.params)
    warm = config.schedule.warmup_updates
    state = dataclasses.replace(parts.state_of(before), step=np.int32(warm))
    arrays = {key: value[None] for key, value in batch.arrays.items()}
    new, metrics = jax.jit(parts.step_fn)(state, arrays, np.int32(1))
    total, weight = metrics["loss"]
    assert np.isfinite(float(total)) and float(weight) > 0
    assert int(new.step) == warm + 1
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, jax.device_get(new.params))
    assert sum(jax.tree.leaves(changed)) > len(jax.tree.leaves(changed)) // 2
