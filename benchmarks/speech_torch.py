"""Torch's side of the comparisons of models of waveforms (runs in a worker of its own): the layers
of transformers. It makes the models, of random weights, and saves them for the other side."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers

from benchmarks.speech_work import LETTERS, RATE, clips, still


class Pretraining:
    """A wav2vec 2.0 in pretraining: the layers and the quantizer's weights are transformers', the
    loss is fairseq's, of masked frames alone (that of transformers compares all frames)."""

    def __init__(self, *, folder: str, size: str, rows: int, seconds: float, cores: int):
        torch.set_num_threads(cores)
        torch.manual_seed(1)
        self.config = transformers.Wav2Vec2Config(**still(size))
        self.make = transformers.Wav2Vec2ForPreTraining
        self.make(self.config).save_pretrained(folder)
        self.folder = folder
        lengths = np.full(rows, int(seconds * RATE))
        self.samples = torch.from_numpy(np.stack(clips(lengths, seed=2)))
        self.seconds = rows * seconds
        self._begin()

    def _begin(self) -> None:
        self.model: Any = self.make.from_pretrained(
            self.folder, attn_implementation="sdpa").train()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-8, fused=True)

    def take(self, *, at: list, masked: list, mask: list, negatives: list) -> None:
        """What was drawn for the batch: places [B, M] of masked frames and which of them count, the
        mask [B, T], and negatives [B, M, K]."""
        self.at, self.masked = torch.tensor(at), torch.tensor(masked)
        self.mask, self.negatives = torch.tensor(mask), torch.tensor(negatives)

    def _pick(self, x: torch.Tensor) -> torch.Tensor:
        return x.gather(1, self.at[..., None].expand(-1, -1, x.shape[-1]))

    def _quantized(self, features: torch.Tensor, noise: bool) -> tuple[Any, Any, Any]:
        """Vectors, the entries chosen, and how many are in use."""
        quantizer, groups = self.model.quantizer, self.model.quantizer.num_groups
        logits = quantizer.weight_proj(features).float()
        logits = logits.view(*features.shape[:2], groups, -1)
        counted = torch.softmax(logits, -1)[self.masked].mean(0)
        used = torch.exp(-(counted * torch.log(counted + 1e-7)).sum(-1)).sum()
        if noise:
            chosen = F.gumbel_softmax(logits, tau=2.0, hard=True)
        else:
            chosen = F.one_hot(logits.argmax(-1), logits.shape[-1]).float()
        table = quantizer.codevectors.view(groups, logits.shape[-1], -1)
        vectors = torch.einsum("bmgv,gvd->bmgd", chosen, table).flatten(2)
        return vectors, chosen.argmax(-1), used / (groups * logits.shape[-1])

    def _loss(self, noise: bool) -> torch.Tensor:
        """Per masked frame, fairseq's further losses 0.1 and 10 times."""
        model = self.model
        features = model.wav2vec2.feature_extractor(self.samples).transpose(1, 2)
        penalty = features.square().mean()
        x, features = model.wav2vec2.feature_projection(features)
        x = torch.where(self.mask[..., None], model.wav2vec2.masked_spec_embed, x)
        states = model.wav2vec2.encoder(x).last_hidden_state
        vectors, codes, used = self._quantized(self._pick(features), noise)
        target, own = model.project_q(vectors), model.project_hid(self._pick(states))
        others, theirs = target.flatten(0, 1)[self.negatives], codes.flatten(0, 1)[self.negatives]
        candidates = torch.cat([target[:, :, None], others], 2)
        logits = F.cosine_similarity(own[:, :, None], candidates, dim=-1) / (
            self.config.contrastive_logits_temperature)
        same = (theirs == codes[:, :, None]).all(-1)
        logits[:, :, 1:] = logits[:, :, 1:].masked_fill(same, -torch.inf)
        each = torch.logsumexp(logits, -1) - logits[..., 0]
        return each[self.masked].mean() + 0.1 * (1 - used) + 10 * penalty

    def _update(self, noise: bool) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(noise)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def losses(self, *, steps: int) -> dict[str, Any]:
        """Of updates without Gumbel noise, from the weights that the other side has."""
        found = [self._update(noise=False) for _ in range(steps)]
        self._begin()
        return {"losses": found}

    def step(self, *, times: int) -> dict[str, Any]:
        """Whole updates; work is seconds of sound."""
        for _ in range(times):
            self._update(noise=True)
        return {"work": times * self.seconds}

    def front(self, *, times: int, full: bool = False) -> dict[str, Any]:
        """The convolutions over samples, forward and backward."""
        module = self.model.wav2vec2.feature_extractor
        for _ in range(times):
            module.zero_grad(set_to_none=True)
            module(self.samples).square().sum().backward()
        grads = [layer.conv.weight.grad for layer in module.conv_layers]
        return {"work": times * self.seconds} | (
            {"shown": [float(g.double().norm()) for g in grads]} if full else {})

    def positions(self, *, times: int, full: bool = False) -> dict[str, Any]:
        """The positional convolution, backward alone."""
        module = self.model.wav2vec2.encoder.pos_conv_embed
        if not hasattr(self, "kept"):
            shape = (*self.mask.shape, self.config.hidden_size)
            x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
            self.x = torch.from_numpy(x).requires_grad_()
            self.kept = module(self.x)
            self.dy = torch.from_numpy(x[::-1].copy())
        for _ in range(times):
            module.zero_grad(set_to_none=True)
            self.x.grad = None
            self.kept.backward(self.dy, retain_graph=True)
        grads = [g for g in (self.x.grad, *(p.grad for p in module.parameters())) if g is not None]
        return {"work": times * self.seconds} | (
            {"shown": sorted(float(g.double().norm()) for g in grads)} if full else {})


class Transcription:
    """transformers' pipeline on a recogniser by CTC with its processor's files."""

    def __init__(self, *, folder: str, size: str, lengths: Sequence[int], cores: int):
        torch.set_num_threads(cores)
        torch.manual_seed(1)
        place = pathlib.Path(folder)
        (place / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(LETTERS)}))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(place / "vocab.json")
        extractor = transformers.Wav2Vec2FeatureExtractor(
            do_normalize=True, return_attention_mask=False)
        transformers.Wav2Vec2Processor(
            feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
        config = transformers.Wav2Vec2Config(
            **still(size), vocab_size=len(LETTERS), pad_token_id=0)
        model = transformers.Wav2Vec2ForCTC(config).eval()
        with torch.no_grad():  # of random weights one symbol would win everywhere
            model.lm_head.weight.mul_(20)
        model.save_pretrained(folder)
        self.pipeline = transformers.pipeline("automatic-speech-recognition", model=folder)
        self.paths = _written(place, lengths)

    def transcribe(self, *, first: int, last: int, full: bool = False) -> dict[str, Any]:
        """Some of the recordings; work is seconds of sound. Files are read by soundfile: without
        an ffmpeg to be started for each, transformers reads none."""
        import soundfile

        paths, seconds = self.paths[first:last], 0.0
        texts = [self.pipeline({"raw": soundfile.read(path, dtype="float32")[0],
                                "sampling_rate": RATE})["text"] for path in paths]
        for path in paths:
            seconds += float(path.rsplit("-", 1)[1].removesuffix(".wav")) / RATE
        return {"work": seconds} | ({"texts": texts} if full else {})


def _written(folder: pathlib.Path, lengths: Sequence[int]) -> list[str]:
    import soundfile

    paths = []
    for i, samples in enumerate(clips(np.array(lengths), seed=4)):
        paths.append(str(folder / f"{i:03d}-{len(samples)}.wav"))
        soundfile.write(paths[-1], samples, RATE)
    return paths
