"""Tiny models that fairseq's hub was recorded with (scripts/record_hub.py), as facades of ours."""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import packed

from seqjax import hub, models
from seqjax.config import GenerationConfig
from seqjax.data.tokenizers import GPT2Tokenizer, Tokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.tasks.text import Text, special_ids

FOLDER = packed.unpacked(packed.GOLDENS) / "hub"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words(Text):
    """A task of one vocabulary, which is nothing but that."""

    vocab: Vocabulary
    tokenizer: Tokenizer | None = None
    config: Any = dataclasses.field(
        default_factory=lambda: types.SimpleNamespace(name="words", post_process=None))

    source_vocab = property(lambda self: self.vocab)
    target_vocab = property(lambda self: self.vocab)
    source_tokenizer = property(lambda self: self.tokenizer)
    target_tokenizer = property(lambda self: self.tokenizer)
    languages = property(lambda self: None)


def said(case: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{case}.json").read_text())


def arrays(case: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{case}.npz") as file:
        return dict(file)


def task() -> Words:
    vocab = Vocabulary.load(FOLDER / "dict.txt")
    vocab.add_symbol("<mask>")
    return Words(vocab=vocab, tokenizer=GPT2Tokenizer(
        encoder_json=(FOLDER / "encoder.json").read_bytes(),
        vocab_bpe=(FOLDER / "vocab.bpe").read_bytes()))


def loaded(case: str) -> Any:
    """The recorded model, as `seqjax.load` gives it for the tasks that it was pretrained by."""
    about, stored = said(case), arrays(case)
    state = {k.removeprefix("weights/"): v for k, v in stored.items() if k.startswith("weights/")}
    # Which norms an encoder of fairseq's has depends on the version of its file, here today's.
    state.setdefault("encoder.sentence_encoder.version" if "bart" not in case else
                     "encoder.version", np.array([3], np.float32))
    found = fairseq_weights.from_tree({
        "args": {"arch": about["arch"], "task": "masked_lm", "criterion": "masked_lm",
                 "tokens_per_sample": 40, **about["args"]}, "model": state})
    return facade(found.config, task(), found.params)


def facade(config: Any, task: Words, params: Any = None, *, seed: int = 0) -> Any:
    """An `Encoder` or a `Translator` of a model's section; without parameters, of random ones."""
    size = len(task.vocab)
    model = models.build(config, source_vocab_size=size, target_vocab_size=size,
                         compute_dtype=jnp.float32, **special_ids(task.vocab))
    params = model.init(jax.random.key(seed)) if params is None else params
    kind = hub.Translator if hasattr(model, "step") else hub.Encoder
    section = types.SimpleNamespace(generation=GenerationConfig(), seed=1, model=config)
    return kind(task=task, config=section, models=(model,),  # type: ignore[arg-type]
                params=(jax.tree.map(jnp.asarray, params),), identity="tiny")
