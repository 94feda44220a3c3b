"""Samples of blocks: fairseq's, the same on any number of hosts, in shapes that are known."""

from __future__ import annotations

import json
from typing import Any

import noise_cases as cases
import numpy as np
import pytest
from tiny_text import config, write_text

from seqjax import tasks
from seqjax.config import BatchingConfig, ConfigError
from seqjax.data.batches import DataState, TrainIterator, assemble
from seqjax.data.fairseq_order import ordered_ids
from seqjax.data.noised_blocks import FramedBlocks
from seqjax.data.pipeline import open_batches
from seqjax.data.planning import make_plan

SPANS = {"mask": 0.3, "mask_random": 0.1, "mask_length": "span-poisson", "replace_length": 1}
TASKS = {
    "masked_lm": {}, "denoising": {**SPANS, "rotate": 0.3, "insert": 0.1},
    "span_masked_lm": {"sentinels": 8}, "multilingual_masked_lm": {"multilang_sampling_alpha": 0.3},
    "multilingual_denoising": {**SPANS, "add_lang_token": True, "multilang_sampling_alpha": 0.3,
                               "rotate": 0.0},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One folder for all tasks: text of its own, and of two languages."""
    folder = write_text(tmp_path_factory.mktemp("text"))
    write_text(folder / "aa", sentences=20, seed=1)
    write_text(folder / "bb", sentences=120, seed=2, dictionary=False)
    return folder


def task_of(data, name, **values) -> Any:
    return tasks.setup(config(data, name, task={**TASKS[name], **values}, seed=3))


@pytest.mark.parametrize("mode", ["none", "complete", "complete_doc", "eos"])
def test_blocks_masks_and_order_are_fairseqs(goldens, mode):
    """Of its task on a real data folder, in two epochs, to the last token."""
    folder = goldens / "transformer_lm" / "eval_lm" / "data-bin"
    wanted = json.loads((goldens / "noise.json").read_text())["blocks"][mode]
    cfg = config(folder, "masked_lm", seed=cases.SEED, task={"sample_break_mode": mode})
    dataset: Any = tasks.setup(cfg).dataset("valid")
    assert len(dataset) == wanted["count"]
    for epoch, digest in wanted["samples"].items():
        samples = dataset.at_epoch(int(epoch)).samples(np.arange(len(dataset)))
        assert cases.digest([x for pair in samples for x in pair]) == digest
    order = ordered_ids(dataset.lengths, seed=cases.SEED)
    assert cases.digest([order]) == wanted["order"]


def test_sentences_lose_their_eos_and_documents_end_blocks():
    text = [[5, 6, 2], [7, 2], [2], [8, 9, 10, 2], [2], [11, 2]]
    blocks = FramedBlocks(text, tokens_per_sample=8, break_mode="complete_doc", bos=0, end=2,
                          strip=2)
    assert [b.tolist() for b in blocks.gather(np.arange(len(blocks)))] == [
        [0, 5, 6, 7, 2], [0, 8, 9, 10, 2]]
    assert blocks.sizes.tolist() == [5, 5]
    whole = FramedBlocks(text, tokens_per_sample=6, break_mode="none", bos=0)
    assert [b.tolist() for b in whole.gather(np.array([1, 0]))] == [
        [0, 2, 8, 9, 10, 2], [0, 5, 6, 2, 7, 2]]


def test_long_sentences_are_cut_to_what_a_block_has_room_for():
    """fairseq cuts them to `tokens_per_sample`; with `<s>` they are too long again."""
    text = [[5, 6, 7, 8, 9, 10, 2], [11, 2]]
    for end in (None, 2):
        for mode in ("eos", "complete"):
            blocks = FramedBlocks(text, tokens_per_sample=6, break_mode=mode, bos=0, end=end,
                                  strip=end, shorten_method="truncate")
            assert blocks.sizes.max() == 6, (end, mode)
            assert blocks.gather(np.array([0]))[0].tolist() == [
                0, 5, 6, 7, 8, 9 if end is None else 2]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("mode", ["bucketed", "packed"])
def test_samples_are_the_same_on_any_number_of_hosts_and_after_a_stop(data, name, mode):
    task = task_of(data, name)
    dataset = task.train_dataset()
    batching = BatchingConfig(mode=mode, max_tokens=256, pack_length=64, num_shapes=3,
                              backend="numpy")
    plan = make_plan(dataset.lengths, batching, seed=3, row_multiple=2, update_freq=(2,),
                     mixture=getattr(dataset, "mixture", None))
    shapes, epochs = set(), {}
    for epoch in (1, 2):
        found, later = plan.epoch(epoch), []
        for index in range(len(found)):
            update = found.update(index)
            shapes.add((update.groups, update.shape))
            whole, ids = assemble(update, dataset)
            halves = [assemble(update, dataset, shard=(k, 2)) for k in range(2)]
            for key, array in whole.items():
                np.testing.assert_array_equal(
                    array, np.concatenate([half[0][key] for half in halves], axis=1))
                assert array.dtype == np.int32
            later.append(whole)
        epochs[epoch] = later
        # Begun in the middle of the epoch, in the background, by both back ends' road.
        state = DataState(epoch=epoch, batch=2 * found.groups)
        with open_batches(plan, dataset, batching=batching, state=state) as batches:
            for wanted in later[2:]:
                batch = next(batches)
                for key, array in wanted.items():
                    np.testing.assert_array_equal(batch.arrays[key], array)
    assert shapes <= set(plan.shapes) and len(plan.shapes) <= 3
    assert any((a["source"].shape != b["source"].shape) or (a["source"] != b["source"]).any()
               for a, b in zip(epochs[1], epochs[2], strict=False))


def test_another_epoch_draws_other_masks_and_validation_always_the_same(data):
    dataset = task_of(data, "masked_lm").train_dataset()
    ids = np.arange(5)
    first, second = (dataset.at_epoch(e).samples(ids) for e in (1, 2))
    assert any((a[0] != b[0]).any() for a, b in zip(first, second, strict=True))
    again = dataset.at_epoch(2).at_epoch(1).samples(ids)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    # In whatever order they are asked for.
    np.testing.assert_array_equal(dataset.samples(np.array([4, 0]))[1][0], first[0][0])


@pytest.mark.parametrize("backend", ["numpy", "tfdata"])
def test_both_back_ends_draw_alike(data, backend):
    if backend == "tfdata":
        pytest.importorskip("tensorflow")
    dataset = task_of(data, "denoising").train_dataset()
    batching = BatchingConfig(max_tokens=256, num_shapes=2, backend=backend)
    plan = make_plan(dataset.lengths, batching, seed=3)
    wanted = TrainIterator(plan, dataset)
    with open_batches(plan, dataset, batching=batching) as batches:
        for _ in range(len(plan.epoch(1)) + 2):  # into the second epoch
            batch, other = next(batches), next(wanted)
            np.testing.assert_array_equal(batch.arrays["source"], other.arrays["source"])


def test_languages_end_in_their_token_and_are_drawn_by_the_power_of_their_sizes(data):
    task = task_of(data, "multilingual_denoising")
    words = task.source_vocab.symbols
    assert words[-3:] == ["[aa]", "[bb]", "<mask>"] and task.config.langs == ("aa", "bb")
    whole = task.train_dataset()
    ends = [whole.sentence(i)[1][-1] for i in range(len(whole))]
    sizes = [ends.count(len(words) - 3), ends.count(len(words) - 2)]
    assert sum(sizes) == len(whole) and sizes[0] < sizes[1] / 3
    assert len(task.dataset("train_aa")) == sizes[0]
    drawn = np.concatenate([whole.mixture.draw(np.arange(len(whole)), seed=3, epoch=e)
                            for e in range(1, 4)])
    share = (np.array(ends)[drawn] == len(words) - 3).mean()
    wanted = sizes[0] ** 0.3 / (sizes[0] ** 0.3 + sizes[1] ** 0.3)
    assert share == pytest.approx(wanted, abs=0.05)
    assert task.dataset("valid").mixture is None
    # Sentences keep their eos inside of a block.
    assert any((whole.sentence(i)[1][1:-1] == 2).any() for i in range(len(whole)))


@pytest.mark.parametrize(("name", "values", "message"), [
    ("masked_lm", {"mask_prob": 1.5}, "config.task.mask_prob: 1.5"),
    ("masked_lm", {"mask_whole_words": True}, "neither the data folder's tokenizer nor"),
    ("masked_lm", {"bpe": "characters", "mask_whole_words": True}, "not of 'characters'"),
    ("masked_lm", {"tokens_per_sample": 2}, "tokens_per_sample: 2"),
    ("denoising", {"replace_length": 3}, "config.task.replace_length: 3"),
    ("denoising", {"full_stop": "nosuch"}, "config.task.full_stop: 'nosuch'"),
    ("span_masked_lm", {"noise_density": 2.0}, "config.task.noise_density: 2.0"),
    ("multilingual_denoising", {"langs": ("aa", "zz")}, "has no folder 'zz'; there are aa, bb"),
    ("multilingual_denoising", {"langs": ("aa",), "no_whole_word_mask_langs": ("bb",)},
     "'bb' is not one of config.task.langs"),
])
def test_wrong_values_are_named_before_anything_is_computed(data, name, values, message):
    with pytest.raises(ConfigError, match=message):
        task_of(data, name, **values)


def test_too_few_words_for_gaps_are_named(data):
    with pytest.raises(ConfigError, match="blocks of .* tokens have 2 gaps, and there are 1 words"):
        task_of(data, "span_masked_lm", sentinels=1, noise_density=0.3).train_dataset()


def test_languages_of_other_dictionaries_are_refused(data, tmp_path):
    write_text(tmp_path)
    write_text(tmp_path / "aa")
    with open(tmp_path / "aa" / "dict.txt", "a") as file:
        file.write("more 1\n")
    with pytest.raises(ConfigError, match="aa/dict.txt: is not .*dict.txt: .*preprocess all"):
        task_of(tmp_path, "multilingual_masked_lm")
    (tmp_path / "dict.txt").unlink()
    with pytest.raises(ConfigError, match="dict.txt: missing: the dictionary of all languages"):
        task_of(tmp_path, "multilingual_masked_lm")


def test_fairseqs_batches_of_languages_are_refused(data):
    dataset = task_of(data, "multilingual_masked_lm").train_dataset()
    with pytest.raises(ValueError, match="batching.mode='fairseq' composes all epochs alike"):
        make_plan(dataset.lengths, BatchingConfig(mode="fairseq"), seed=1, mixture=dataset.mixture)


def test_a_corpus_that_holds_masks_is_refused(data, tmp_path):
    write_text(tmp_path)
    with open(tmp_path / "dict.txt") as file:
        words = file.read()
    (tmp_path / "dict.txt").write_text(words.replace("w5 1", "<mask> 1"))
    dataset = task_of(tmp_path, "masked_lm").train_dataset()
    with pytest.raises(ValueError, match="holds <mask>"):
        dataset.samples(np.arange(len(dataset)))
