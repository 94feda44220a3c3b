"""Training that begins with folders of Hugging Face's (seqjax/interop/huggingface/start.py)."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import folders_of_transformers as folders
import huggingface_goldens
import jax
import numpy as np
import pytest
import tiny_run

import seqjax
from seqjax import checkpoints, convert, preprocess, tasks, train
from seqjax.checkpoints import CheckpointError
from seqjax.config import ConfigError
from seqjax.data import folder as data_folder
from seqjax.data.indexed import IndexedWriter
from seqjax.data.pipeline import epoch_batches
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.huggingface import start, tokenizer_files
from seqjax.interop.huggingface.model import read_model
from seqjax.settings import resolve
from seqjax.training import initial_state
from seqjax.training.parts import prepare

CASES = ("bart", "bart_forced", "roberta", "roberta_labels", "roberta_model", "xlm_roberta", "camembert", "bert", "bert_model",
         "bart_labels", *huggingface_goldens.names())
"""Folders of transformers' own, and recorded cases that become such."""
TASKS = {"masked_lm": {"tokens_per_sample": 10}, "language_modeling": {"tokens_per_sample": 10},
         "seq2seq": {"source_lang": "aa", "target_lang": "bb"}}


def folder_of(case: str, target: pathlib.Path) -> pathlib.Path:
    if "/" not in case:
        return folders.copied(case, target)
    folders.of_family(case, target)
    return target


class Fresh:
    """A work folder without checkpoints."""

    @staticmethod
    def latest() -> None:
        return None


def write_data(place: pathlib.Path, task: Any, *, pairs: bool) -> pathlib.Path:
    """Sentences of the words of a task's dictionaries, under these."""
    place.mkdir()
    rng = np.random.default_rng(0)
    for lang, vocabulary in (("aa", task.source_vocab), ("bb", task.target_vocab)):
        data_folder.save_dictionary(place, vocabulary, lang if pairs else "")
        words = [i for i in range(len(vocabulary)) if i not in vocabulary.special_ids]
        for split in ("train", "valid"):
            name = f"{split}.aa-bb.{lang}" if pairs else split
            with IndexedWriter(place / name, dtype=np.dtype(np.uint16)) as out:
                for length in rng.integers(2, 6, 24 if split == "train" else 4):
                    out.append(np.append(rng.choice(words, length), vocabulary.eos))
        if not pairs:
            break
    return place


@pytest.mark.parametrize("case", CASES)
def test_every_family_is_a_start(case, tmp_path):
    """Its model without a key of it in the configuration, its weights, and an update of them."""
    folder = folder_of(case, tmp_path / "folder")
    found = read_model(folder)
    theirs = tasks.from_assets(resolve(found.config), found.assets)
    name = found.config["task"]["name"]
    data = write_data(tmp_path / "data", theirs, pairs=name == "seq2seq")
    raw = {"init_from": str(folder), "seed": 1,
           "task": {"name": name, "data": str(data), **TASKS[name]}, "loss": {
               "name": "masked_lm" if name == "masked_lm" else "cross_entropy"},
           "batching": {"max_tokens": 96, "num_shapes": 1, "backend": "numpy"},
           "schedule": {"name": "fixed"}, "train": {"lr": [1e-3]}, "valid": {"enabled": False}}
    completed, pretrained = start.completed(raw)
    config = resolve(completed)
    parts = prepare(config)
    begun = start.start_from(config, pretrained)
    initial = initial_state.begin(
        parts, initial_state.abstract_state(parts), saved=Fresh(), start=begun)
    print(initial.origin)
    params = jax.device_get(initial.state.params)
