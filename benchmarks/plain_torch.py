"""The opponent that stands for fairseq: its transformer and search in plain torch.

Our own code, written the way a good torch programmer would: nn.Linear, fused
scaled-dot-product attention, fused Adam, a fused label-smoothed loss, and a beam search
like fairseq's (incremental keys and values per hypothesis, index_select when beams
reorder, sentences leave the batch when they finish). It keeps fairseq's arithmetic, so
losses and hypotheses can be compared. Not imported by seqjax or its tests.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sizes import EOS, PAD, Arrays, Size, sinusoids

MAX_POSITIONS = 1024


class SelfAttention(nn.Module):
    def __init__(self, size: Size):
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.dim, 3 * size.dim)
        self.out_proj = nn.Linear(size.dim, size.dim)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] to three of [B, H, T, K]."""
        b, t, d = x.shape
        parts = self.qkv(x).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        return q, k, v

    def merge(self, x: Tensor) -> Tensor:
        return self.out_proj(x.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
        q, k, v = self.split(x)
        return self.merge(
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        )


class CrossAttention(nn.Module):
    def __init__(self, size: Size):
        super().__init__()
        self.heads = size.heads
        self.q_proj = nn.Linear(size.dim, size.dim)
        self.kv = nn.Linear(size.dim, 2 * size.dim)
        self.out_proj = nn.Linear(size.dim, size.dim)

    def memory(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, K] of the encoder's output [B, S, D]."""
        b, s, d = encoded.shape
        k, v = self.kv(encoded).view(b, s, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return k, v

    def forward(self, x: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None) -> Tensor:
        b, t, d = x.shape
        q = self.q_proj(x).view(b, t, self.heads, d // self.heads).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A post-norm layer; decoder layers also attend to the source."""

    def __init__(self, size: Size, dropout: float, *, decoder: bool):
        super().__init__()
        self.dropout = dropout
        self.self_attn = SelfAttention(size)
        self.self_attn_layer_norm = nn.LayerNorm(size.dim)
        if decoder:
            self.encoder_attn = CrossAttention(size)
            self.encoder_attn_layer_norm = nn.LayerNorm(size.dim)
        self.fc1 = nn.Linear(size.dim, size.ffn)
        self.fc2 = nn.Linear(size.ffn, size.dim)
        self.final_layer_norm = nn.LayerNorm(size.dim)

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.final_layer_norm(x + self.drop(self.fc2(F.relu(self.fc1(x)))))

    def encode(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.self_attn(x, mask=mask, causal=False)
        return self.feed_forward(self.self_attn_layer_norm(x + self.drop(y)))

    def decode(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        y = self.self_attn(x, mask=None, causal=True)
        x = self.self_attn_layer_norm(x + self.drop(y))
        y = self.encoder_attn(x, k, v, mask=mask)
        return self.feed_forward(self.encoder_attn_layer_norm(x + self.drop(y)))


class Model(nn.Module):
    """fairseq's transformer with all embeddings shared."""

    positions: Tensor

    def __init__(self, size: Size, *, dropout: float = 0.0):
        super().__init__()
        self.size = size
        self.dropout = dropout
        self.embed_tokens = nn.Embedding(size.vocab, size.dim, PAD)
        self.encoder = nn.ModuleList(
            Layer(size, dropout, decoder=False) for _ in range(size.encoder_layers)
        )
        self.decoder = nn.ModuleList(
            Layer(size, dropout, decoder=True) for _ in range(size.decoder_layers)
        )
        self.register_buffer("positions", torch.from_numpy(sinusoids(MAX_POSITIONS, size.dim)))

    def embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        x = self.embed_tokens(tokens) * math.sqrt(self.size.dim)
        x = x + self.positions[first : first + tokens.shape[1]]
        return F.dropout(x, self.dropout, self.training)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encoder output [B, S, D] and the mask [B, 1, 1, S] of real positions."""
        real = source != PAD
        mask = None if bool(real.all()) else real[:, None, None, :]
        x = self.embed(source) * real[..., None]
        for layer in self.encoder:
            x = layer.encode(x, mask)
        return x, mask

    def forward(self, source: Tensor, previous: Tensor) -> Tensor:
        """Decoder states [B, T, D], teacher-forced."""
        encoded, mask = self.encode(source)
        x = self.embed(previous)
        for layer in self.decoder:
            x = layer.decode(x, *layer.encoder_attn.memory(encoded), mask)
        return x

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embed_tokens.weight)


def load(size: Size, arrays: Arrays, *, dropout: float = 0.0) -> Model:
    """A model with these weights (fairseq's names)."""
    model = Model(size, dropout=dropout)
    state = {"positions": model.positions}

    def join(prefix: str, parts: tuple[str, ...], kind: str) -> Tensor:
        return torch.from_numpy(np.concatenate([arrays[f"{prefix}.{p}.{kind}"] for p in parts]))

    for name, value in arrays.items():
        side, _, rest = name.partition(".")
        target = rest if rest.startswith("embed_tokens") else f"{side}.{rest[len('layers.'):]}"
        if any(p in name for p in ("k_proj", "v_proj")):
            continue
        if ".self_attn.q_proj" in name:
            prefix, kind = name.split(".q_proj.")
            target = target.replace("q_proj", "qkv")
            state[target] = join(prefix, ("q_proj", "k_proj", "v_proj"), kind)
            continue
        if ".encoder_attn.q_proj" in name:
            prefix, kind = name.split(".q_proj.")
            state[target.replace("q_proj", "kv")] = join(prefix, ("k_proj", "v_proj"), kind)
        state[target] = torch.from_numpy(value)
    model.load_state_dict(state)
    return model


def unload(model: Model) -> Arrays:
    """The weights of `model` under fairseq's names."""
    arrays: Arrays = {}
    parts = {"qkv": ("q_proj", "k_proj", "v_proj"), "kv": ("k_proj", "v_proj")}
    for name, tensor in model.state_dict().items():
        value = tensor.detach().cpu().float().numpy().copy()
        if name == "positions":
            continue
        if name.startswith("embed_tokens"):
            arrays[f"encoder.{name}"] = value
            continue
        side, _, rest = name.partition(".")
        stem, last, kind = f"{side}.layers.{rest}".rsplit(".", 2)
        names = parts.get(last, (last,))
        for part, piece in zip(names, np.split(value, len(names)), strict=True):
            arrays[f"{stem}.{part}.{kind}"] = piece
    return arrays


def smoothed_loss(model: Model, states: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """fairseq's label-smoothed cross entropy, summed over real tokens (natural log).

    torch smooths over all V words, fairseq over V - 1: the factor makes them equal.
    """
    logits = model.logits(states).float().view(-1, model.size.vocab)
    vocab = model.size.vocab
    return F.cross_entropy(
        logits, target.reshape(-1), ignore_index=PAD, reduction="sum",
        label_smoothing=smoothing * vocab / (vocab - 1),
    )


def previous_tokens(target: Tensor) -> Tensor:
    """The target with its eos moved to the front."""
    shifted = target.roll(1, dims=1)
    shifted[:, 0] = EOS
    return torch.where(target == PAD, target, shifted)


class Trainer:
    """fairseq's update: loss over tokens, normalised by tokens, Adam."""

    def __init__(
        self, size: Size, arrays: Arrays, *, dropout: float, lr: float, smoothing: float = 0.1,
        device: str = "cpu", autocast: bool = False, compiled: bool = False,
    ):
        self.model = load(size, arrays, dropout=dropout).to(device)
        self.smoothing, self.device, self.autocast = smoothing, device, autocast
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-8, fused=True
        )
        self.loss = self._loss
        if compiled:
            self.loss = torch.compile(self._loss, dynamic=True)

    def _loss(self, source: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            states = self.model(source, previous_tokens(target))
            return smoothed_loss(self.model, states, target, self.smoothing)

    def step(self, source: Tensor, target: Tensor, tokens: int) -> Tensor:
        """One update; the loss per token before it."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(source, target) / tokens
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@dataclasses.dataclass(kw_only=True)
class Hypothesis:
    tokens: list[int]
    score: float


@torch.inference_mode()
def beam_search(
    model: Model, source: Tensor, *, beam: int, max_len: int | Tensor, min_len: int = 1,
    lenpen: float = 1.0,
) -> list[list[Hypothesis]]:
    """Beam search with fairseq's rules.

    Args:
      source: [B, S], right-padded.
      max_len: tokens before a forced eos; one for all or [B].
      min_len: steps in which eos is not allowed, less one.

    Returns:
      Per sentence up to `beam` hypotheses (eos included), best first.
    """
    return _Search(model, source, beam, max_len, min_len, lenpen).run()


class _Search:
    def __init__(
        self, model: Model, source: Tensor, beam: int, max_len: int | Tensor, min_len: int,
        lenpen: float,
    ):
        self.model, self.beam, self.min_len, self.lenpen = model, beam, min_len, lenpen
        rows = source.shape[0]
        self.device = source.device
        encoded, mask = model.encode(source)
        expand = torch.arange(rows, device=self.device).repeat_interleave(beam)
        self.memory = [
            tuple(x.index_select(0, expand) for x in layer.encoder_attn.memory(encoded))
            for layer in model.decoder
        ]
        self.mask = None if mask is None else mask.index_select(0, expand)
        self.history: list[tuple[Tensor, Tensor] | None] = [None] * len(model.decoder)
        limit = torch.as_tensor(max_len, device=self.device).expand(rows)
        self.limit = limit.clone()
        self.sentence = list(range(rows))
        self.tokens = torch.full((rows * beam, 1), EOS, device=self.device)
        self.scores = torch.zeros(rows, beam, device=self.device)
        self.done: list[list[Hypothesis]] = [[] for _ in range(rows)]

    def run(self) -> list[list[Hypothesis]]:
        for step in range(int(self.limit.max()) + 1):
            self.advance(step)
            if not self.sentence:
                break
        for found in self.done:
            found.sort(key=lambda h: -h.score)
        return self.done

    def log_probs(self, step: int) -> Tensor:
        """[rows * beam, V] of the next token."""
        x = self.model.embed(self.tokens[:, -1:], step)
        for index, layer in enumerate(self.model.decoder):
            q, k, v = layer.self_attn.split(x)
            past = self.history[index]
            if past is not None:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            self.history[index] = (k, v)
            y = layer.self_attn.merge(F.scaled_dot_product_attention(q, k, v))
            x = layer.self_attn_layer_norm(x + y)
            y = layer.encoder_attn(x, *self.memory[index], mask=self.mask)
            x = layer.feed_forward(layer.encoder_attn_layer_norm(x + y))
        return F.log_softmax(self.model.logits(x[:, 0]).float(), dim=-1)

    def advance(self, step: int) -> None:
        beam, rows = self.beam, len(self.sentence)
        lprobs = self.log_probs(step)
        vocab = lprobs.shape[-1]
        lprobs[:, PAD] = -math.inf
        if step < self.min_len:
            lprobs[:, EOS] = -math.inf
        last = (self.limit <= step).repeat_interleave(beam)
        if bool(last.any()):
            only_eos = torch.full_like(lprobs, -math.inf)
            only_eos[:, EOS] = lprobs[:, EOS]
            lprobs = torch.where(last[:, None], only_eos, lprobs)
        total = lprobs.view(rows, beam, vocab) + self.scores[..., None]
        if step == 0:
            total = total[:, :1]
        score, flat = total.reshape(rows, -1).topk(2 * beam)
        parent, token = flat // vocab, flat % vocab
        is_eos = token.eq(EOS) & score.ne(-math.inf)
        self.finish(step, score, parent, is_eos)
        # The best `beam` candidates that go on, in their order.
        order = torch.arange(2 * beam, device=self.device) + is_eos * (2 * beam)
        keep = order.topk(beam, dim=1, largest=False, sorted=True).indices
        alive = [
            row for row, index in enumerate(self.sentence)
            if len(self.done[index]) < beam and step < int(self.limit[row])
        ]
        self.reorder(keep, score, parent, token, alive)

    def finish(self, step: int, score: Tensor, parent: Tensor, is_eos: Tensor) -> None:
        """Hypotheses that end with one of the best `beam` candidates."""
        ends = is_eos[:, : self.beam]
        if not bool(ends.any()):
            return
        for row, rank in ends.nonzero().tolist():
            found = self.done[self.sentence[row]]
            if len(found) < self.beam:
                tokens = self.tokens[row * self.beam + int(parent[row, rank]), 1:].tolist()
                found.append(Hypothesis(
                    tokens=[*tokens, EOS],
                    score=float(score[row, rank]) / (step + 1) ** self.lenpen,
                ))

    def reorder(
        self, keep: Tensor, score: Tensor, parent: Tensor, token: Tensor, alive: list[int]
    ) -> None:
        """Goes on with the kept candidates of the sentences that are not finished."""
        rows = torch.tensor(alive, device=self.device, dtype=torch.long)
        chosen = parent.gather(1, keep).index_select(0, rows)
        hypothesis = (rows[:, None] * self.beam + chosen).reshape(-1)
        self.scores = score.gather(1, keep).index_select(0, rows)
        new = token.gather(1, keep).index_select(0, rows).reshape(-1, 1)
        self.tokens = torch.cat([self.tokens.index_select(0, hypothesis), new], 1)
        for index, past in enumerate(self.history):
            assert past is not None
            self.history[index] = (
                past[0].index_select(0, hypothesis), past[1].index_select(0, hypothesis)
            )
        if len(alive) < len(self.sentence):
            slots = (rows[:, None] * self.beam + torch.arange(self.beam, device=self.device))
            slots = slots.reshape(-1)
            self.memory = [tuple(x.index_select(0, slots) for x in kv) for kv in self.memory]
            if self.mask is not None:
                self.mask = self.mask.index_select(0, slots)
            self.limit = self.limit.index_select(0, rows)
            self.sentence = [self.sentence[row] for row in alive]
