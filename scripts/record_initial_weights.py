"""Records how the weights of fairseq's recurrent and convolutional models begin.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes
`FOLDER/initial_values/fairseq.json`:

    python scripts/record_initial_weights.py tests/goldens

Architecture (and what else the case is about) -> `args` given beyond it, and `weights`: name ->
shape, mean, standard deviation, kurtosis (1.8 of a uniform distribution, 3 of a normal one) and
the rows that are zero, over so many models that only the last digits are chance.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import record_families as families
import torch

ENTRIES, MODELS = 40, 200
_LSTM = dict(encoder_embed_dim=16, encoder_hidden_size=12, decoder_embed_dim=14,
             decoder_hidden_size=20, decoder_out_embed_dim=18, encoder_bidirectional=True)
_FCONV = dict(encoder_embed_dim=16, decoder_embed_dim=16, decoder_out_embed_dim=12, dropout=0.2,
              encoder_layers="[(16, 3), (20, 2)]", decoder_layers="[(16, 3), (12, 2)]")
CASES: dict[str, dict[str, Any]] = {
    "lstm": _LSTM,
    "lstm adaptive": _LSTM | dict(
        decoder_hidden_size=16, decoder_out_embed_dim=16, criterion="adaptive_loss",
        adaptive_softmax_cutoff="10,20"),
    "lstm_lm": dict(decoder_embed_dim=14, decoder_hidden_size=20, decoder_out_embed_dim=18,
                    decoder_layers=2),
    "fconv": _FCONV,
    "fconv tied": _FCONV | dict(decoder_out_embed_dim=16, share_input_output_embed=True),
    "fconv_lm": dict(decoder_embed_dim=16, decoder_layers="[(16, 3), (12, 2)]"),
    "fconv_lm adaptive": dict(
        decoder_embed_dim=16, decoder_layers="[(16, 3), (16, 2)]", criterion="adaptive_loss",
        adaptive_softmax_cutoff="10,20"),
}


def moments(x: torch.Tensor) -> list[Any]:
    """Shape, mean, deviation, kurtosis and zero rows of a weight of all models [N, ...]."""
    wide = x.double()
    zero = [i for i in range(x.shape[1]) if x.ndim > 2 and (x[:, i] == 0).all()]
    wide = wide[:, [i for i in range(x.shape[1]) if i not in zero]]
    centred, deviation = wide - wide.mean(), wide.std()
    kurtosis = (centred**4).mean() / deviation**4 if deviation > 0 else torch.zeros(())
    return [list(x.shape[1:]), *(round(float(v), 4) for v in (wide.mean(), deviation, kurtosis)),
            zero]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    path = parser.parse_args().folder / "initial_values" / "fairseq.json"
    torch.manual_seed(1)
    lines = []
    for case, args in CASES.items():
        states = [families.fresh(case.partition(" ")[0], args, (ENTRIES, ENTRIES)).state_dict()
                  for _ in range(MODELS)]
        weights = {name: moments(torch.stack([state[name] for state in states]))
                   for name, value in states[0].items() if value.is_floating_point()}
        told = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in weights.items())
        lines.append(f'"{case}": {{"args": {json.dumps(args)}, "weights": {{\n{told}}}}}')
    path.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
