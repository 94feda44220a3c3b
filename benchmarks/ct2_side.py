"""CTranslate2's side of the decoding comparisons (runs in a worker of its own).

The model is built through CTranslate2's public specifications from the shared weights.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec

from benchmarks import workloads
from benchmarks.sizes import EOS, SIZES, Arrays, Size, sinusoids

MAX_POSITIONS = 1024
SPECIALS = ["<s>", "<blank>", "</s>", "<unk>"]


def convert(size: Size, arrays: Arrays, folder: str) -> None:
    """Writes a CTranslate2 model of the weights into `folder`."""
    spec = transformer_spec.TransformerSpec.from_config(
        (size.encoder_layers, size.decoder_layers), size.heads, pre_norm=False,
        activation=common_spec.Activation.RELU,
    )
    table = arrays["encoder.embed_tokens.weight"]

    def linear(target: Any, *names: str) -> None:
        target.weight = np.concatenate([arrays[f"{n}.weight"] for n in names])
        target.bias = np.concatenate([arrays[f"{n}.bias"] for n in names])

    def norm(target: Any, name: str) -> None:
        target.gamma, target.beta = arrays[f"{name}.weight"], arrays[f"{name}.bias"]

    for side, part in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        embeddings = part.embeddings[0] if side == "encoder" else part.embeddings
        embeddings.weight = table
        embeddings.multiply_by_sqrt_depth = True
        part.position_encodings.encodings = sinusoids(MAX_POSITIONS, size.dim)
        for index, layer in enumerate(part.layer):
            name = f"{side}.layers.{index}"
            own = f"{name}.self_attn"
            linear(layer.self_attention.linear[0], *(f"{own}.{p}_proj" for p in "qkv"))
            linear(layer.self_attention.linear[1], f"{own}.out_proj")
            norm(layer.self_attention.layer_norm, f"{own}_layer_norm")
            if side == "decoder":
                other = f"{name}.encoder_attn"
                linear(layer.attention.linear[0], f"{other}.q_proj")
                linear(layer.attention.linear[1], f"{other}.k_proj", f"{other}.v_proj")
                linear(layer.attention.linear[2], f"{other}.out_proj")
                norm(layer.attention.layer_norm, f"{other}_layer_norm")
            linear(layer.ffn.linear_0, f"{name}.fc1")
            linear(layer.ffn.linear_1, f"{name}.fc2")
            norm(layer.ffn.layer_norm, f"{name}.final_layer_norm")
    spec.decoder.projection.weight = table
    words = SPECIALS + [f"w{i}" for i in range(len(SPECIALS), size.vocab)]
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.bos_token = spec.config.decoder_start_token = "</s>"
    spec.config.eos_token = "</s>"
    spec.config.unk_token = "<unk>"
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.save(folder)


class Decode:
    """Beam search by CTranslate2, float32."""

    def __init__(self, *, size: str, weights: str | None, cores: int):
        self.words = SPECIALS + [f"w{i}" for i in range(len(SPECIALS), SIZES[size].vocab)]
        self.ids = {word: index for index, word in enumerate(self.words)}
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / "model")
            pathlib.Path(path).mkdir()
            convert(SIZES[size], workloads.weights(size, weights), path)
            self.translator = ctranslate2.Translator(
                path, device="cpu", compute_type="float32", inter_threads=1, intra_threads=cores
            )

    def search(self, *, spec: dict[str, Any], full: bool = False) -> dict[str, Any]:
        """Decodes a workload; work is emitted tokens, the eos of a sentence counted.

        A forced length is exactly as many positions as the other sides compute, without
        an eos at the end (CTranslate2 has no rule that forces one).
        """
        job = workloads.decoding(**spec)
        sources = [[self.words[i] for i in s] for s in job.sources]
        forced = job.max_len_a == 0
        longest = max(job.max_len) + 1
        found = self.translator.translate_batch(
            sources, beam_size=job.beam, max_batch_size=job.batch, length_penalty=1.0,
            max_decoding_length=longest, min_decoding_length=longest if forced else 1,
            return_scores=True, return_end_token=True,
        )
        best = [[self.ids[w] for w in r.hypotheses[0]] for r in found]
        result: dict[str, Any] = {"work": sum(len(b) for b in best)}
        if full:
            ended = [b if forced or (b and b[-1] == EOS) else [*b, EOS] for b in best]
            result.update(best=ended, scores=[float(r.scores[0]) for r in found])
        return result
