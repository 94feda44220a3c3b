"""Model sizes of the benchmarks, what they cost exactly, and weights to share.

Weights are NumPy arrays under fairseq's names, `[out, in]`; every side converts them to
what it wants. Knows no toolkit.
"""

from __future__ import annotations

import dataclasses

import numpy as np

PAD, EOS, UNK = 1, 2, 3
FIRST_WORD = 4
"""Ids below are fairseq's specials: bos, pad, eos, unk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """A post-norm encoder-decoder transformer with one embedding for everything."""

    dim: int
    ffn: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    vocab: int

    def encoder_flops(self, source: int) -> float:
        """Forward FLOPs of the encoder for one sentence of `source` positions."""
        layer = 2 * source * (4 * self.dim**2 + 2 * self.dim * self.ffn)
        attention = 2 * 2 * source * source * self.dim
        return float(self.encoder_layers * (layer + attention))

    def memory_flops(self, source: int) -> float:
        """Keys and values of the source for the decoder's attention to it."""
        return float(self.decoder_layers * 2 * source * 2 * self.dim**2)

    def step_flops(self, source: float, history: float) -> float:
        """Forward FLOPs of one decoder position that sees `history` positions."""
        layer = 2 * (6 * self.dim**2 + 2 * self.dim * self.ffn)
        attention = 2 * 2 * (source + history) * self.dim
        return self.decoder_layers * (layer + attention) + 2.0 * self.dim * self.vocab

    def pair_flops(self, source: int, target: int) -> float:
        """Forward and backward FLOPs of one sentence pair in training, causal halved."""
        decoder = target * self.step_flops(source, (target + 1) / 2)
        return 3.0 * (self.encoder_flops(source) + self.memory_flops(source) + decoder)

    def decode_flops(self, source: int, steps: int, beam: int) -> float:
        """FLOPs of decoding one sentence with `beam` hypotheses for `steps` positions."""
        decoder = steps * self.step_flops(source, (steps + 1) / 2)
        return self.encoder_flops(source) + self.memory_flops(source) + beam * decoder


TINY = Size(dim=256, ffn=1024, heads=4, encoder_layers=3, decoder_layers=3, vocab=8192)
BASE = Size(dim=512, ffn=2048, heads=8, encoder_layers=6, decoder_layers=6, vocab=32768)
BIG = Size(dim=1024, ffn=4096, heads=16, encoder_layers=6, decoder_layers=6, vocab=32768)
TOY = Size(dim=128, ffn=512, heads=4, encoder_layers=2, decoder_layers=2, vocab=512)
MICRO = Size(dim=32, ffn=64, heads=2, encoder_layers=2, decoder_layers=2, vocab=96)
SIZES = {"tiny": TINY, "base": BASE, "big": BIG, "toy": TOY, "micro": MICRO}

Arrays = dict[str, np.ndarray]


def random_weights(size: Size, *, seed: int = 0) -> Arrays:
    """Fresh float32 weights under fairseq's names, drawn as fairseq draws them."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}

    def linear(name: str, out: int, into: int, gain: float = 1.0) -> None:
        bound = gain * (6.0 / (out + into)) ** 0.5
        arrays[f"{name}.weight"] = rng.uniform(-bound, bound, (out, into)).astype(np.float32)
        arrays[f"{name}.bias"] = np.zeros(out, np.float32)

    def norm(name: str) -> None:
        arrays[f"{name}.weight"] = np.ones(size.dim, np.float32)
        arrays[f"{name}.bias"] = np.zeros(size.dim, np.float32)

    table = rng.standard_normal((size.vocab, size.dim)).astype(np.float32) * size.dim**-0.5
    table[PAD] = 0.0
    arrays["encoder.embed_tokens.weight"] = table
    for side, layers in (("encoder", size.encoder_layers), ("decoder", size.decoder_layers)):
        for layer in range(layers):
            prefix = f"{side}.layers.{layer}"
            for attention in ("self_attn", "encoder_attn")[: 1 + (side == "decoder")]:
                for part in ("q_proj", "k_proj", "v_proj"):
                    linear(f"{prefix}.{attention}.{part}", size.dim, size.dim, 2**-0.5)
                linear(f"{prefix}.{attention}.out_proj", size.dim, size.dim)
                norm(f"{prefix}.{attention}_layer_norm")
            linear(f"{prefix}.fc1", size.ffn, size.dim)
            linear(f"{prefix}.fc2", size.dim, size.ffn)
            norm(f"{prefix}.final_layer_norm")
    return arrays


def sinusoids(rows: int, dim: int) -> np.ndarray:
    """fairseq's position embedding [rows, dim] of the positions of a sentence."""
    half = dim // 2
    frequency = np.exp(np.arange(half) * -(np.log(10000.0) / (half - 1)))
    angle = np.arange(PAD + 1, PAD + 1 + rows)[:, None] * frequency[None]
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
