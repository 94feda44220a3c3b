"""Token blocks, byte for byte as fairseq cuts them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from seqjax.config import BatchingConfig
from seqjax.data import blocks
from seqjax.data.blocks import TokenBlocks, plan_blocks
from seqjax.data.epoch_plan import Lengths, Shape
from seqjax.data.fairseq_order import ordered_ids
from seqjax.data.pairs import MemoryStore
from seqjax.data.pipeline import epoch_batches
from seqjax.data.planning import make_plan


@pytest.fixture(scope="module")
def recorded(goldens):
    return json.loads((goldens / "blocks" / "fairseq.json").read_text())


def made(case, corpora) -> TokenBlocks:
    keys = ("tokens_per_sample", "break_mode", "add_bos_token", "output_size", "shorten_method",
            "seed")
    return TokenBlocks(corpora[str(case["corpus"])], **{k: case[k] for k in keys})


def test_blocks_are_fairseqs(recorded):
    for case in recorded["cases"]:
        found = made(case, recorded["corpora"])
        about = {k: v for k, v in case.items() if k not in ("source", "target", "order", "sizes")}
        assert found.sizes.tolist() == case["sizes"], about
        both = [found.block(i) for i in range(len(found))]
        lists = [[x.tolist() for x, _ in both], [y.tolist() for _, y in both]]
        if "source" in case:
            assert lists == [case["source"], case["target"]], about
        assert hashlib.sha256(json.dumps(lists).encode()).hexdigest() == case["digest"], about


def test_order_is_fairseqs(recorded):
    for case in recorded["cases"]:
        lengths = Lengths(target=np.array(case["sizes"], np.int32))
        assert ordered_ids(lengths, seed=3).tolist() == case["order"]


def test_shards_are_one_stream(recorded):
    corpus = recorded["corpora"]["0"]
    for mode in ("none", "complete", "complete_doc", "eos"):
        whole = TokenBlocks(corpus, tokens_per_sample=9, break_mode=mode)
        parts = TokenBlocks(
            [MemoryStore(corpus[:11]), MemoryStore(corpus[11:])], tokens_per_sample=9,
            break_mode=mode,
        )
        ids = np.arange(len(whole))
        for a, b in zip(whole.gather(ids), parts.gather(ids), strict=True):
            np.testing.assert_array_equal(a, b)


def test_stores_need_not_be_in_order(recorded):
    """An index may point anywhere."""
    corpus = recorded["corpora"]["1"]
    plain = TokenBlocks(corpus, tokens_per_sample=9)

    class Reversed(MemoryStore):
        def __init__(self):
            super().__init__(corpus[::-1])
            self.lengths, self._starts = self.lengths[::-1], self._starts[::-1]

    moved = TokenBlocks(Reversed(), tokens_per_sample=9)
    for i in range(len(plain)):
        for a, b in zip(plain.block(i), moved.block(i), strict=True):
            np.testing.assert_array_equal(a, b)


def test_materialise_pads_and_restarts_segments():
    data = TokenBlocks([[5, 6, 2], [7, 2], [8, 9, 10, 2]], tokens_per_sample=9, break_mode="eos")
    ids, rows = np.array([0, 2, 1]), np.array([0, 1, 2])
    batch = data.materialise(ids, rows, Shape(4, 0, 5))
    assert batch["source"].tolist() == [
        [2, 5, 6, 1, 1], [2, 8, 9, 10, 1], [2, 7, 1, 1, 1], [1] * 5]
    assert batch["target"].tolist() == [
        [5, 6, 2, 1, 1], [8, 9, 10, 2, 1], [7, 2, 1, 1, 1], [1] * 5]
    packed = data.materialise(ids[:2], np.array([0, 0]), Shape(1, 0, 8), packed=True)
    assert packed["source"].tolist() == [[2, 5, 6, 2, 8, 9, 10, 1]]
    assert packed["target_segments"].tolist() == [[1, 1, 1, 2, 2, 2, 2, 0]]
    with pytest.raises(ValueError, match="row 1 has 4 tokens"):
        data.materialise(ids, rows, Shape(4, 0, 3))


def test_inputs_keep_words_that_are_not_predicted():
    data = TokenBlocks([[5, 9, 6, 2]], tokens_per_sample=2, output_size=8)
    source, target, _ = data.gather(np.arange(2))
    assert source.tolist() == [2, 5, 9, 6] and target.tolist() == [5, 3, 6, 2]


@pytest.mark.parametrize("mode", ["bucketed", "packed", "fairseq"])
def test_every_mode_of_batching_takes_blocks(mode, recorded):
    data = TokenBlocks(recorded["corpora"]["0"], tokens_per_sample=16, add_bos_token=True)
    plan = make_plan(
        data.lengths, seed=1, max_target_positions=17, train=False,
        batching=BatchingConfig(mode=mode, max_tokens=128, pack_length=32),
    )
    seen = 0
    for batch in epoch_batches(plan.epoch(1), data):
        assert (batch.arrays["source"] != 1).sum() == (batch.arrays["target"] != 1).sum()
        seen += (batch.arrays["target"] != 1).sum()
    assert seen == len(data.stream) + len(data)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="no tokens"):
        TokenBlocks([[2], [2]], tokens_per_sample=4, break_mode="complete_doc")
    with pytest.raises(ValueError, match="tokens_per_sample=0"):
        plan_blocks(np.array([3]), tokens_per_sample=0)
    with pytest.raises(ValueError, match="'lines' is unknown"):
        plan_blocks(np.array([3]), tokens_per_sample=4, break_mode="lines")  # type: ignore[arg-type]


def test_crops_follow_the_seed():
    starts = [blocks.crop_start(i, 20, seed=1) for i in range(50)]
    assert len(set(starts)) > 5 and set(starts) <= set(range(20))
    assert starts == [blocks.crop_start(i, 20, seed=1) for i in range(50)]
    assert starts != [blocks.crop_start(i, 20, seed=2) for i in range(50)]
