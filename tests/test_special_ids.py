"""Vocabularies whose special symbols have other ids than fairseq's: a model that is told of them
gives the numbers of one with fairseq's ids whose rows are moved."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models
from seqjax.config import ConfigError, GenerationConfig
from seqjax.data.blocks import TokenBlocks
from seqjax.data.epoch_plan import Shape
from seqjax.data.folder import load_dictionary, save_dictionary
from seqjax.data.pairs import PairDataset
from seqjax.data.vocabulary import Vocabulary, VocabularyError
from seqjax.generation.decoder import Decoder
from seqjax.models.protocol import encode_tokens
from seqjax.tasks import assets

WORDS = 12
MOVED = np.array([7, 5, 9, 0, 1, 2, 3, 4, 6, 8, 10, 11])
"""Where each id of fairseq's stands in the other vocabulary: bos 7, pad 5, eos 9, unk 0."""
SPECIAL = {"pad": 5, "eos": 9}
TINY = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in dict(
    embed_dim=8, ffn_embed_dim=12, layers=2, attention_heads=2, learned_pos=True).items()}
"""Positions are learned: sinusoids are of the row behind padding's on, as in fairseq, and so are
others where padding is another id."""


def build(name: str, **special: int) -> Any:
    config = models.CONFIGS[name](
        **{k: v for k, v in TINY.items() if k in models.CONFIGS[name].__dataclass_fields__},
        dropout=0.0)
    return models.build(config, source_vocab_size=WORDS, target_vocab_size=WORDS,
                        compute_dtype=jnp.float32, **special)


def moved(params: Any, *, shift: int) -> Any:
    """Parameters whose rows of words, and of learned positions, stand where the others want."""
    def move(path: Any, x: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if "embed_positions" in name:  # the first token's row is that behind padding's
            return jnp.concatenate([jnp.zeros((shift, x.shape[1])), x])
        if "embed_tokens" in name or "lm_head']['bias" in name:
            return x[np.argsort(MOVED)]
        if "output_projection" in name:
            return x[:, np.argsort(MOVED)]
        return x

    return jax.tree_util.tree_map_with_path(move, params)


def noisy(model: Any) -> Any:
    params = model.init(jax.random.key(3))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    return jax.tree.unflatten(tree, [
        x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)])


@pytest.mark.parametrize("name", ["transformer", "bart", "transformer_lm", "roberta"])
def test_ids_change_no_number(name: str) -> None:
    usual, other = build(name), build(name, **SPECIAL)
    params = noisy(usual)
    there = moved(params, shift=SPECIAL["pad"] - 1)
    shapes = jax.eval_shape(other.init, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), there, shapes)
    source = np.array([[4, 6, 3, 2], [8, 2, 1, 1]])
    prev = np.array([[2, 5, 9], [2, 7, 1]])
    found = []
    for model, p, s, t in ((usual, params, source, prev),
                           (other, there, MOVED[source], MOVED[prev])):
        encoded = encode_tokens(model, p, jnp.asarray(s))
        features = (model.features(p, encoded) if name == "roberta"
                    else model.features(p, jnp.asarray(t), encoded))
        found.append(np.asarray(features.logits()))
    real = (source if name == "roberta" else prev) != 1
    np.testing.assert_allclose(found[1][..., MOVED][real], found[0][real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["transformer", "transformer_lm"])
def test_ids_change_no_hypothesis(name: str) -> None:
    usual, other = build(name), build(name, **SPECIAL)
    params = noisy(usual)
    there = moved(params, shift=SPECIAL["pad"] - 1)
    config = GenerationConfig(beam=3, nbest=3, max_len_b=6, unkpen=0.5)
    source = [np.array([4, 6, 3, 2], np.int32), np.array([8, 2], np.int32)]
    reads = name == "transformer"
    first = [np.array([5], np.int32), np.array([6, 7], np.int32)]
    found = Decoder(usual, config, unk=3).decode(
        (params,), source if reads else [np.array([2], np.int32)] * 2,
        prefixes=None if reads else first)
    again = Decoder(other, config, unk=0).decode(
        (there,), [MOVED[s].astype(np.int32) for s in source] if reads
        else [np.array([9], np.int32)] * 2,
        prefixes=None if reads else [MOVED[x].astype(np.int32) for x in first])
    for before, after in zip(found, again, strict=True):
        assert [list(MOVED[h.tokens]) for h in before] == [list(h.tokens) for h in after]
        np.testing.assert_allclose([h.score for h in before], [h.score for h in after], rtol=1e-5)


def test_no_symbol_for_padding() -> None:
    vocabulary = Vocabulary.of_symbols(["a", "b", "<|end|>"], bos=None, pad=None, eos=2, unk=None)
    assert vocabulary.special_ids == (2, 3, 2, 3)
    assert vocabulary.encode_line("b a").tolist() == [1, 0, 2]
    with pytest.raises(VocabularyError, match="'c' is not in the vocabulary"):
        vocabulary.encode_line("a c")
    model = build("transformer_lm", pad=WORDS, eos=11)
    params = noisy(model)
    alone = model.features(params, jnp.array([[11, 4, 5]])).logits()
    padded = model.features(params, jnp.array([[11, 4, 5, WORDS, WORDS]])).logits()
    np.testing.assert_allclose(padded[:, :3], alone, rtol=1e-5, atol=1e-5)


def test_vocabularies_are_kept_whole(tmp_path: Any) -> None:
    vocabulary = Vocabulary.of_symbols(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a b", "ä"], bos=2, pad=0, eos=3, unk=1)
    assert not vocabulary.is_fairseq and Vocabulary(["x"]).is_fairseq
    assert vocabulary[99] == "[UNK]" and vocabulary.string([2, 1, 5, 3]) == "[UNK] ä"
    packed = assets.pack_vocabulary("en", vocabulary)
    assert list(packed) == ["vocabulary.en.json"]
    save_dictionary(tmp_path, vocabulary, "en")
    for again in (assets.unpack_vocabulary("en", packed), load_dictionary(tmp_path, "en")):
        assert again == vocabulary and again.special_ids == (2, 0, 3, 1)
        assert again.symbols == vocabulary.symbols
    same = Vocabulary.of_symbols(vocabulary.symbols, bos=2, pad=0, eos=3, unk=2)
    assert same != vocabulary
    with pytest.raises(VocabularyError, match="pad: id 9 in a vocabulary of 6"):
        Vocabulary.of_symbols(vocabulary.symbols, bos=2, pad=9, eos=3, unk=1)


def test_batches_are_filled_with_its_padding() -> None:
    pairs = PairDataset([[6, 4, 9], [4, 9]], [[6, 9], [4, 6, 9]], pad=5, eos=9, truncate_source=2)
    batch = pairs.materialise(np.array([0, 1]), np.array([0, 1]), Shape(2, 3, 4))
    assert batch["source"].tolist() == [[6, 9, 5], [4, 9, 5]]
    assert batch["target"].tolist() == [[6, 9, 5, 5], [4, 6, 9, 5]]
    blocks = TokenBlocks([[6, 4, 9]], tokens_per_sample=8, break_mode="eos", add_bos_token=True,
                         special_ids=(7, 5, 9, 0), output_size=6)
    batch = blocks.materialise(np.array([0]), np.array([0]), Shape(1, 0, 5))
    assert batch["source"].tolist() == [[7, 9, 6, 4, 5]]
    assert batch["target"].tolist() == [[0, 0, 4, 0, 5]]


def test_families_that_know_fairseqs_ids_only_say_so() -> None:
    with pytest.raises(ConfigError, match="'lstm' are for vocabularies .* this one has pad 5"):
        build("lstm", **SPECIAL)
