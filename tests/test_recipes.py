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
import tiny_speech
import tiny_text

from seqjax import (
    average,
    convert,
    evaluate,
    generate,
    models,
    preprocess,
    score,
    settings,
    train,
)
from seqjax import config as configuration
from seqjax.commands import prepare_audio, prepare_clusters, prepare_s2t
from seqjax.config import Config
from seqjax.data.indexed import IndexedWriter
from seqjax.data.pipeline import epoch_batches
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq.config import FairseqConfig
from seqjax.training import checks
from seqjax.training.parts import prepare

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
RECIPES = sorted(f.stem for f in CONFIGS.glob("*.py"))
VARIANTS = {
    "roberta_glue": ("MNLI", "QNLI", "QQP", "RTE", "SST-2", "MRPC", "CoLA", "STS-B"),
    "wmt14_en_de": ("base", "big"), "bart_cnn_dm": ("cnn_dm", "xsum"),
    "librispeech_s2t": ("s", "m", "l"), "mustc": ("asr-de", "st-de", "st-fr"),
    "wav2vec2_finetune": ("10m", "1h", "10h", "100h", "960h"), "hubert_base": ("iter1", "iter2"),
}
"""What may follow a recipe's name behind a colon."""
PREPARING: dict[str, Any] = {
    "audio": prepare_audio.parser, "s2t": prepare_s2t.parser,
    "features": prepare_clusters.features_parser, "kmeans": prepare_clusters.kmeans_parser,
    "labels": prepare_clusters.labels_parser}
"""What the first word behind `preprocess` may be."""


def prepared(words: list[str]) -> Any:
    first, *more = words
    if first in PREPARING:
        return PREPARING[first]().parse_args(more)
    return preprocess.parser().parse_args(words)


VERBS: dict[str, Any] = {
    "preprocess": prepared, "average": average.parse,
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
    "librispeech_s2t:s": (29.5, (0, 10000)), "librispeech_s2t:m": (71.2, (0, 10000)),
    "librispeech_s2t:l": (267.8, (0, 10000)), "mustc:asr-de": (29.5, (0, 5000)),
    "mustc:st-de": (31.1, (0, 8000)), "wav2vec2_base": (95, (0, 0)),
    "wav2vec2_finetune": (94.4, (0, 32)), "hubert_base": (94.7, (0, 504)),
    "hubert_finetune": (94.4, (0, 32)),
}
"""Millions of parameters that the docstring says, and words of the dictionaries."""


@pytest.mark.parametrize("recipe", SIZES)
def test_models_have_as_many_parameters_as_is_said(recipe):
    millions, words = SIZES[recipe]
    name, _, variant = recipe.partition(":")
    source, target = words if isinstance(words, tuple) else (words, words)
    model = models.build(settings.resolve(load(name, variant)).model, source_vocab_size=source,
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
    ("librispeech_s2t", "s"):
        "data-bin/librispeech --config-yaml config.yaml --train-subset "
        "train-clean-100,train-clean-360,train-other-500 --valid-subset dev-clean,dev-other "
        "--num-workers 4 --max-tokens 40000 --max-update 300000 --task speech_to_text --criterion "
        "label_smoothed_cross_entropy --label-smoothing 0.1 --report-accuracy --arch "
        "s2t_transformer_s --share-decoder-input-output-embed --optimizer adam --lr 2e-3 "
        "--lr-scheduler inverse_sqrt --warmup-updates 10000 --clip-norm 10.0 --seed 1 "
        "--update-freq 8",
    ("mustc", "asr-de"):
        "data-bin/mustc.en-de --config-yaml config_asr.yaml --train-subset train_asr "
        "--valid-subset dev_asr --num-workers 4 --max-tokens 40000 --max-update 100000 --task "
        "speech_to_text --criterion label_smoothed_cross_entropy --label-smoothing 0.1 "
        "--report-accuracy --arch s2t_transformer_s --optimizer adam --lr 1e-3 --lr-scheduler "
        "inverse_sqrt --warmup-updates 10000 --clip-norm 10.0 --seed 1 --update-freq 8",
    ("mustc", "st-de"):
        "data-bin/mustc.en-de --config-yaml config_st.yaml --train-subset train_st --valid-subset "
        "dev_st --num-workers 4 --max-tokens 40000 --max-update 100000 --task speech_to_text "
        "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 --report-accuracy --arch "
        "s2t_transformer_s --optimizer adam --lr 2e-3 --lr-scheduler inverse_sqrt --warmup-updates "
        "10000 --clip-norm 10.0 --seed 1 --update-freq 8 --load-pretrained-encoder-from "
        "runs/mustc-asr-de-average",
}
"""fairseq's own commands; where it counts what each of 8 GPUs does, `--update-freq` is 8 times
that."""


def differences(ours: Config, theirs: Config) -> dict[str, tuple[Any, Any]]:
    """Keys of what is learned and how -> both values."""
    different = {}
    for section in ("task", "model", "loss", "optimizer", "schedule", "train"):
        a, b = (configuration.to_plain(getattr(c, section)) for c in (ours, theirs))
        different |= {f"{section}.{k}": (a[k], b[k]) for k in a if a[k] != b[k]}
    return different


@pytest.mark.parametrize(("name", "variant"), FAIRSEQ)
def test_recipes_are_fairseqs_commands(name, variant):
    """Every key of what is learned and how, but for what is stated beside the command."""
    command = f"fairseq-train {FAIRSEQ[name, variant]}".replace("(", "'(").replace(")", ")'")
    theirs = settings.resolve(fairseq_recipe.from_command(command).raw)
    ours = settings.resolve(load(name, variant))
    different = differences(ours, theirs)
    different.pop("train.compute_dtype", None)  # fairseq's command is of float32 without --fp16
    different.pop("task.post_process", None)  # of sampled outputs
    different.pop("task.scoring", None)  # of validations that decode
    different.pop("model.pooler_dropout", None)
    assert not different
    assert ours.init_from == theirs.init_from and ours.seed == theirs.seed
    assert ours.init_parts == theirs.init_parts
    for key in ("max_tokens", "max_sentences"):
        assert getattr(ours.batching, key) == getattr(theirs.batching, key)


ADAM = {"_name": "adam", "adam_betas": "(0.9,0.98)"}
PRETRAINING = {
    "optimization": {"max_update": 400000, "lr": [0.0005]},
    "optimizer": {**ADAM, "adam_eps": 1e-06, "weight_decay": 0.01},
    "lr_scheduler": {"_name": "polynomial_decay", "warmup_updates": 32000},
}
FINETUNING = {
    "criterion": {"_name": "ctc", "zero_infinity": True},
    "optimization": {"sentence_avg": True}, "optimizer": {**ADAM, "adam_eps": 1e-08},
}
WAV2VEC_CTC = {
    **FINETUNING,
    "task": {"_name": "audio_finetuning", "normalize": False, "labels": "ltr"},
    "lr_scheduler": {"_name": "tri_stage", "phase_ratio": [0.1, 0.4, 0.5], "final_lr_scale": 0.05},
}
WAV2VEC_MASKS = {
    "_name": "wav2vec_ctc", "apply_mask": True, "mask_channel_length": 64,
    "activation_dropout": 0.1, "feature_grad_mult": 0.0}
YAML: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("wav2vec2_base", ""): {
        **PRETRAINING,
        "task": {"_name": "audio_pretraining", "max_sample_size": 250000,
                 "min_sample_size": 32000, "normalize": False},
        "dataset": {"max_tokens": 1400000, "skip_invalid_size_inputs_valid_test": True},
        "distributed_training": {"distributed_world_size": 64},
        "criterion": {"_name": "wav2vec", "infonce": True, "loss_weights": [0.1, 10],
                      "log_keys": ["prob_perplexity", "code_perplexity", "temp"]},
        "model": {"_name": "wav2vec2", "quantize_targets": True, "final_dim": 256,
                  "encoder_layerdrop": 0.05, "dropout_input": 0.1, "dropout_features": 0.1,
                  "feature_grad_mult": 0.1, "encoder_embed_dim": 768},
    },
    **{("wav2vec2_finetune", amount): {
        **WAV2VEC_CTC,
        "dataset": {"max_tokens": 3200000, "skip_invalid_size_inputs_valid_test": True,
                    "valid_subset": "dev_other", "validate_after_updates": after},
        "distributed_training": {"distributed_world_size": world},
        "optimization": {"max_update": updates, "lr": [lr], "sentence_avg": True,
                         "update_freq": [8 // world]},
        "model": {**WAV2VEC_MASKS, "mask_prob": frames, "mask_channel_prob": channels,
                  "layerdrop": layers, "freeze_finetune_updates": frozen},
    } for amount, world, updates, lr, frames, channels, layers, frozen, after in (
        ("10m", 2, 13000, 0.00005, 0.65, 0.25, 0.1, 10000, 10000),
        ("1h", 2, 13000, 0.00005, 0.65, 0.25, 0.1, 10000, 10000),
        ("10h", 2, 20000, 0.00005, 0.65, 0.5, 0.05, 10000, 10000),
        ("100h", 2, 80000, 0.00003, 0.65, 0.5, 0.1, 0, 0),
        ("960h", 8, 320000, 0.0001, 0.5, 0.1, 0.1, 0, 0))},
    **{("hubert_base", iteration): {
        **PRETRAINING,
        "common": {"seed": 1337},
        "task": {"_name": "hubert_pretraining", "label_rate": rate, "sample_rate": 16000,
                 "max_sample_size": 250000, "min_sample_size": 32000, "pad_audio": False,
                 "random_crop": True, "normalize": False},
        "dataset": {"max_tokens": 1400000, "skip_invalid_size_inputs_valid_test": True},
        "distributed_training": {"distributed_world_size": 32},
        "criterion": {"_name": "hubert", "pred_masked_weight": 1.0, "pred_nomask_weight": 0.0,
                      "loss_weights": [10]},
        "optimization": {**PRETRAINING["optimization"], "clip_norm": 10.0},
        "model": {"_name": "hubert", "label_rate": rate, "skip_masked": False,
                  "skip_nomask": False, "mask_prob": 0.80, "extractor_mode": "default",
                  "conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
                  "final_dim": 256, "encoder_layerdrop": 0.05, "dropout_input": 0.1,
                  "dropout_features": 0.1, "dropout": 0.1, "attention_dropout": 0.1,
                  "feature_grad_mult": 0.1, "untie_final_proj": True, "activation_dropout": 0.0},
    } for iteration, rate in (("iter1", 100), ("iter2", 50))},
    ("hubert_finetune", ""): {
        **FINETUNING,
        "common": {"seed": 1337},
        "task": {"_name": "hubert_pretraining", "fine_tuning": True, "normalize": False,
                 "labels": ["ltr"], "single_target": True},
        "dataset": {"max_tokens": 3200000, "validate_after_updates": 10000},
        "distributed_training": {"distributed_world_size": 8},  # config/finetune/run
        "optimization": {"max_update": 25000, "lr": [2e-5], "sentence_avg": True,
                         "update_freq": [1]},
        "lr_scheduler": {"_name": "tri_stage", "warmup_steps": 8000, "hold_steps": 0,
                         "decay_steps": 72000, "final_lr_scale": 0.05},
        "model": {"_name": "hubert_ctc", "apply_mask": True, "mask_selection": "static",
                  "mask_length": 10, "mask_other": 0, "mask_prob": 0.75,
                  "mask_channel_selection": "static", "mask_channel_length": 64,
                  "mask_channel_other": 0, "mask_channel_prob": 0.5, "layerdrop": 0.1,
                  "dropout": 0.0, "activation_dropout": 0.1, "attention_dropout": 0.0,
                  "feature_grad_mult": 0.0, "freeze_finetune_updates": 10000},
    },
}
"""fairseq's examples/wav2vec/config and examples/hubert/config, less what says where files are and
how they are logged and saved."""


@pytest.mark.parametrize(("name", "variant"), YAML)
def test_recipes_are_fairseqs_yaml(name, variant):
    """Every key of the files that is here, and defaults of the others; updates see as many
    samples."""
    groups = YAML[name, variant]
    ours = settings.resolve(load(name, variant))
    for group, section in (("task", ours.task), ("model", ours.model), ("criterion", ours.loss)):
        plain = configuration.to_plain(section)
        for key, value in groups[group].items():
            here = plain["name" if key == "_name" else key]
            assert here == value, (group, key)
    flat = {**{k: v for values in groups.values() for k, v in values.items() if k != "_name"},
            "fp16": True}
    theirs = settings.resolve(fairseq_recipe.from_fairseq(FairseqConfig(
        arch=groups["model"]["_name"], model=groups["model"],
        groups={**groups, "common": {**groups.get("common", {}), "fp16": True}})).raw)
    different = differences(ours, theirs)
    ours_only = {"task.data", "train.compute_dtype", "train.update_freq", "model.label_classes",
                 "model.w2v_path", "model.arch"}
    ours_only |= {"task.labels"} if name == "hubert_base" else set()
    ours_only |= {"schedule.warmup_updates"} if ours.schedule.phase_ratio else set()
    assert not different.keys() - ours_only
    assert ours.seed == flat.get("seed", 1)
    samples = [c.batching.max_tokens * c.train.update_freq[0] for c in (ours, theirs)
               if c.batching.max_tokens is not None]
    assert len(samples) == 2 and samples[0] == samples[1]
    assert ours.valid.after_updates == theirs.valid.after_updates
    assert ours.valid.subset == theirs.valid.subset


# ---- one update ----


SPEECH = {"conv_feature_layers": "[(8, 10, 5), (8, 8, 4)]", "conv_channels": 16, "final_dim": 8,
          "latent_vars": 8, "label_classes": [7], "mask_channel_length": 4, "w2v_path": None}
"""Keys of models of recordings that have no usual end."""


def is_of_waveforms(raw: dict[str, Any]) -> bool:
    return "wav2vec" in raw["model"].get("name", "") or "hubert" in raw["model"].get("name", "")


def shrunken(name: str, data: pathlib.Path) -> dict[str, Any]:
    """A recipe with its model, its blocks and its batches made small; all else is as it was."""
    raw = load(name)
    plain = configuration.to_plain(settings.resolve(raw).model)
    ends = {"_embed_dim": 16, "_layers": 1, "attention_heads": 2}
    ends |= {} if is_of_waveforms(raw) else {"_positions": 64}
    small = {key: size for key, value in plain.items() for end, size in ends.items()
             if f"_{key}".endswith(end) and type(value) is int}
    small |= {key: [8, 14] for key, value in plain.items() if key.endswith("_cutoff") and value}
    small |= {key: value for key, value in SPEECH.items() if key in plain}
    raw["model"] = {**raw["model"], **small, "scan_unroll": 1}
    task = {**raw["task"], "data": str(data)}
    task |= {"tokens_per_sample": 24} if "tokens_per_sample" in task else {}
    task |= {"bpe": "none"} if "bpe" in task else {}  # there is no tokenizer to know words by
    task |= {"min_sample_size": 100} if "min_sample_size" in task else {}
    batching = {**raw["batching"], "backend": "numpy", "num_shapes": 1}
    batching |= {"max_tokens": 384, "max_sentences": 16, "required_batch_size_multiple": 8}
    batching |= {"pack_length": 24} if batching["mode"] == "packed" else {}
    if is_of_waveforms(raw):
        batching["max_tokens"] = 16 * 2 * tiny_speech.SAMPLES
    return {**raw, "init_from": None, "init_parts": "all", "task": task, "batching": batching,
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
    if name == "speech_to_text":
        return tiny_speech.write_tables(place, raw["task"])
    if is_of_waveforms(raw):
        return tiny_speech.write_manifests(place, raw["task"])
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
    warm = max(config.schedule.warmup_updates,
               getattr(config.model, "freeze_finetune_updates", 0))
    state = dataclasses.replace(parts.state_of(before), step=np.int32(warm))
    arrays = {key: value[None] for key, value in batch.arrays.items()}
    new, metrics = jax.jit(parts.step_fn)(state, arrays, np.int32(1))
    total, weight = metrics["loss"]
    assert np.isfinite(float(total)) and float(weight) > 0
    assert int(new.step) == warm + 1
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, jax.device_get(new.params))
    assert sum(jax.tree.leaves(changed)) > len(jax.tree.leaves(changed)) // 2
