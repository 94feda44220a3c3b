"""Hugging Face transformers' side of the comparison of pretrained models (runs in a worker of its
own). It makes the model, of random weights, and saves it for the other side."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from benchmarks.pretrained import BOS, EOS, PAD, ROWS, SIZES, rolled_rows, shown


class Bart:
    """A BART as transformers runs it: eager, its own attention kernels, float32."""

    def __init__(self, *, folder: str, size: str, steps: int, beam: int, cores: int):
        torch.set_num_threads(cores)
        torch.manual_seed(1)
        config = transformers.BartConfig(
            **SIZES[size], bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS,
            decoder_start_token_id=EOS, forced_eos_token_id=None, dropout=0.0, init_std=0.06)
        self.model = transformers.BartForConditionalGeneration(config).eval()
        self.model.generation_config = transformers.GenerationConfig(
            num_beams=beam, min_new_tokens=steps - 1, max_new_tokens=steps, length_penalty=1.0,
            bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS)
        self.model.save_pretrained(folder)

    @torch.inference_mode()
    def features(self, *, rows: list[list[int]], full: bool = False) -> dict[str, Any]:
        """Decoder states of every row, in batches of rows of like length; work is tokens."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: dict[int, Any] = {}
        for start in range(0, len(order), ROWS):
            part = order[start : start + ROWS]
            ids, mask = _padded([rows[i] for i in part])
            previous, _ = _padded([rolled_rows(rows[i]) for i in part])
            states = self.model.model(
                input_ids=ids, attention_mask=mask, decoder_input_ids=previous, use_cache=False,
            ).last_hidden_state.numpy()
            for row, i in enumerate(part):
                found[i] = states[row, : len(rows[i])]
        result: dict[str, Any] = {"work": sum(map(len, rows))}
        return result | ({"shown": shown([found[i] for i in range(len(rows))])} if full else {})

    @torch.inference_mode()
    def search(self, *, rows: list[list[int]], full: bool = False) -> dict[str, Any]:
        """Beam search over rows in one batch; work is emitted tokens."""
        ids, mask = _padded(rows)
        found = self.model.generate(input_ids=ids, attention_mask=mask)[:, 1:].tolist()
        result: dict[str, Any] = {"work": sum(map(len, found))}
        return result | ({"best": found} if full else {})


def _padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return ids, (ids != PAD).long()
