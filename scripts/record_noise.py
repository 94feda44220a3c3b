"""Records what fairseq masks and how it noises 10,000 sentences: `tests/goldens/noise.json`.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither:

    python scripts/record_noise.py tests/goldens/noise.json [DATA]

Sentences and settings are those of `tests/noise_cases.py`. Samples are kept as a digest of all of
them, exact to the token, and as statistics. `DATA` is the data folder whose blocks are recorded
as well (default: `tests/goldens/transformer_lm/eval_lm/data-bin`).

- `masking`, `spans`, `resampling`: fairseq's own draws, which NumPy makes.
- `denoising.CASE.digest`: fairseq's own code where torch's generator is replaced by NumPy's of
  the seed of each item, as seqjax draws. Insertions are counted (fairseq computes their number
  by a division that may round up).
- `denoising.CASE.statistics`: fairseq as it is, over all sentences.
- `blocks`: samples of its task `masked_lm` on `DATA`, and the order of its batches.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import types

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import noise_cases as cases  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from fairseq.data import Dictionary, FairseqDataset, data_utils, denoising_dataset  # noqa: E402
from fairseq.data.mask_tokens_dataset import MaskTokensDataset  # noqa: E402
from fairseq.data.resampling_dataset import ResamplingDataset  # noqa: E402
from fairseq.data.span_mask_tokens_dataset import SpanMaskedTokensDataset  # noqa: E402
from fairseq.tasks.masked_lm import MaskedLMConfig, MaskedLMTask  # noqa: E402


class Texts(FairseqDataset):
    """Sentences as fairseq's datasets wrap them."""

    def __init__(self, sentences):
        self.sentences = [torch.from_numpy(s) for s in sentences]
        self.sizes = np.array([len(s) for s in sentences])

    def __getitem__(self, index):
        return self.sentences[index].clone()

    def __len__(self):
        return len(self.sentences)


def dictionary() -> Dictionary:
    found = Dictionary()
    for word, count in zip(cases.WORDS, cases.counts()[cases.SPECIAL:-1], strict=True):
        found.add_symbol(word, count)
    found.add_symbol("<mask>")
    return found


def masking() -> dict:
    texts, words = cases.sentences(ends=True), dictionary()
    found = {}
    for name, case in cases.MASKING.items():
        options = {**case}
        whole = options.pop("mask_whole_words", False)
        table = torch.from_numpy(cases.begins().astype(np.uint8)) if whole else None
        source, target = (
            MaskTokensDataset(
                Texts(texts), words, pad_idx=words.pad(), mask_idx=cases.MASK, seed=cases.SEED,
                return_masked_tokens=only, mask_whole_words=table, **options)
            for only in (False, True))
        for part in (source, target):
            part.set_epoch(cases.EPOCH)
        samples = [(source[i].numpy(), target[i].numpy()) for i in range(len(texts))]
        found[name] = {
            "digest": cases.digest([x for pair in samples for x in pair]),
            "first": [[x.tolist() for x in pair] for pair in samples[:3]],
            "statistics": cases.masking_statistics(texts, samples)}
    return found


class Spans:
    """torch's Categorical over the lengths of spans, drawn from NumPy."""

    def __init__(self, rate, rng):
        ps = [float(np.exp(-rate))]
        while len(ps) < 128 and ps[-1] >= 1e-7:
            ps.append(ps[-1] * rate / len(ps))
        self.cumulated, self.rng = (np.array(ps) / sum(ps)).cumsum(), rng

    def sample(self, sample_shape):
        drawn = np.searchsorted(self.cumulated, self.rng().random(sample_shape[0]), side="right")
        return torch.from_numpy(np.minimum(drawn, len(self.cumulated) - 1))


class Replaced(denoising_dataset.DenoisingDataset):
    """fairseq's dataset that draws from NumPy's generator of each item's seed."""

    counting = False

    def replace(self, rate):
        def rng():
            return self.rng

        fake = types.SimpleNamespace(**{k: getattr(torch, k) for k in dir(torch)})
        fake.randperm = lambda n: torch.from_numpy(rng().permutation(int(n)))
        fake.randint = lambda low, high, size: torch.from_numpy(
            rng().integers(low, high, int(size[0])))
        fake.FloatTensor = lambda n: types.SimpleNamespace(
            uniform_=lambda: torch.from_numpy(rng().random(int(n))))
        denoising_dataset.torch = fake
        if self.mask_span_distribution is not None:
            self.mask_span_distribution = Spans(rate, rng)

    def __getitem__(self, index):
        seed = int(hash((self.seed, self.epoch, index)) % 1e6)
        self.rng = np.random.default_rng([seed, 1])
        return super().__getitem__(index)

    def add_whole_word_mask(self, source, p):
        self.counting = True
        found = super().add_whole_word_mask(source, p)
        self.counting = False
        return found

    def add_insertion_noise(self, tokens, p):
        if self.counting:  # of the empty spans themselves
            p = (round(len(tokens) * p) - 0.5) / len(tokens)
        return super().add_insertion_noise(tokens, p)


def denoising() -> dict:
    texts, words, found = cases.sentences(ends=True), dictionary(), {}
    for name, case in cases.DENOISING.items():
        options = {**case}
        table = torch.from_numpy(cases.begins().astype(np.uint8))
        options["mask_whole_words"] = table if options.pop("words") else None

        def made(cls, options=options):
            dataset = cls(Texts(texts), np.array([len(t) for t in texts]), words, cases.MASK,
                          shuffle=False, seed=cases.SEED, bpe="gpt2", **options)
            dataset.set_epoch(cases.EPOCH)
            return dataset

        torch.manual_seed(1)
        denoising_dataset.torch = torch
        dataset = made(denoising_dataset.DenoisingDataset)
        own = [dataset[i]["source"].numpy() for i in range(len(texts))]
        dataset = made(Replaced)
        dataset.replace(case["poisson_lambda"])
        ours = [dataset[i]["source"].numpy() for i in range(len(texts))]
        found[name] = {"digest": cases.digest(ours), "first": [s.tolist() for s in ours[:3]],
                       "statistics": cases.noise_statistics(texts, own)}
        denoising_dataset.torch = torch
    return found


def spans() -> dict:
    texts, words, found = cases.sentences(ends=True), dictionary(), {}
    for name, case in cases.SPANS.items():
        dataset = SpanMaskedTokensDataset(Texts(texts), words, shuffle=False, seed=cases.SEED,
                                          **case)
        dataset.set_epoch(cases.EPOCH)
        samples = [dataset[i] for i in range(len(texts))]
        found[name] = {"digest": cases.digest(
            [s[side].numpy() for s in samples for side in ("source", "target")])}
    return found


def resampling() -> dict:
    sizes, found = np.array(cases.LANGUAGES, float), {}
    for alpha in cases.ALPHAS:
        shares = (sizes / sizes.sum()) ** alpha
        ratios = shares / shares.sum() * sizes.sum() / sizes
        drawn = []
        for size, ratio in zip(cases.LANGUAGES, ratios, strict=True):
            texts = Texts([np.zeros(1, np.int64)] * size)
            one = ResamplingDataset(texts, size_ratio=ratio, seed=cases.SEED, epoch=cases.EPOCH,
                                    replace=ratio >= 1.0)
            drawn.append(one._cur_indices.array)
        found[str(alpha)] = cases.digest(drawn)
    return found


def blocks(data: str) -> dict:
    found = {}
    for mode in ("none", "complete", "complete_doc", "eos"):
        cfg = dataclasses.replace(MaskedLMConfig(), data=data, tokens_per_sample=24,
                                  sample_break_mode=mode, seed=cases.SEED)
        task = MaskedLMTask.setup_task(cfg)
        task.load_dataset("valid")
        dataset, digests = task.datasets["valid"], {}
        for epoch in (1, 2):
            dataset.set_epoch(epoch)
            rows = [dataset[i] for i in range(len(dataset))]
            digests[str(epoch)] = cases.digest(
                [x.numpy() for r in rows for x in (r["net_input.src_tokens"], r["target"])])
        with data_utils.numpy_seed(cases.SEED):
            order = dataset.ordered_indices()
        found[mode] = {"samples": digests, "count": len(dataset),
                       "order": cases.digest([np.asarray(order)])}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("data", nargs="?", default=str(
        ROOT / "tests" / "goldens" / "transformer_lm" / "eval_lm" / "data-bin"))
    args = parser.parse_args()
    np.compat = types.SimpleNamespace(long=np.int64)  # which NumPy 2 has not
    found = {"masking": masking(), "denoising": denoising(), "spans": spans(),
             "resampling": resampling(), "blocks": blocks(args.data)}
    args.file.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")
    print(f"{args.file}: {args.file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
