"""Records what fairseq-eval-lm prints for a tiny language model.

Needs fairseq (main branch of 2025, its Cython parts built) and torch. Writes `weights.npz`
(and the keys of the model's config in `about`) and `lines.json` (arguments -> lines):

    python scripts/record_eval_lm.py DATA_BIN CHECKPOINT FOLDER

CHECKPOINT is any fairseq `transformer_lm` checkpoint for the dictionary of DATA_BIN; its
config is what the tiny model's is made from.
"""

from __future__ import annotations

import argparse
import json
import logging
import pathlib
import sys
import tempfile

import numpy as np
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import eval_lm
from omegaconf import OmegaConf

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

TINY = dict(
    decoder_embed_dim=8, decoder_input_dim=8, decoder_output_dim=8, decoder_ffn_embed_dim=8,
    decoder_layers=1, decoder_attention_heads=2, share_decoder_input_output_embed=True,
    tokens_per_sample=40,
)
CASES = (
    ["--tokens-per-sample", "40", "--output-word-probs", "--output-word-stats",
     "--post-process=@@ "],
    ["--tokens-per-sample", "40", "--context-window", "10", "--output-word-probs"],
    ["--tokens-per-sample", "24", "--sample-break-mode", "complete", "--context-window", "7",
     "--add-bos-token", "--output-word-stats", "--post-process=@@ "],
    ["--tokens-per-sample", "24", "--sample-break-mode", "eos", "--output-word-probs"],
)


class Lines(logging.Handler):
    """Keeps what eval-lm says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("data", "checkpoint", "folder"):
        parser.add_argument(name, type=pathlib.Path)
    args = parser.parse_args()
    tree = torch.load(args.checkpoint, weights_only=False)
    tree["cfg"]["task"]["data"] = str(args.data)
    for key, value in TINY.items():
        tree["cfg"]["model"][key] = value
    torch.manual_seed(1)
    cfg = OmegaConf.create(tree["cfg"])
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    for value in model.parameters():
        value.data.add_(0.3 * torch.randn_like(value))
    tree["model"] = model.state_dict()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/tiny.pt"
        torch.save(tree, path)
        for case in CASES:
            found[" ".join(case)] = run([
                str(args.data), "--path", path, "--gen-subset", "valid", "--cpu",
                "--max-tokens", "512", *case,
            ])
    (args.folder / "lines.json").write_text(json.dumps(found, indent=0, ensure_ascii=False))
    about = {k: tree["cfg"]["model"][k] for k in (*TINY, "decoder_normalize_before")}
    state = {k: v.numpy() for k, v in tree["model"].items()}
    np.savez_compressed(args.folder / "weights.npz", about=np.array(json.dumps(about)), **state)
    packed.pack(args.folder)


def run(arguments: list[str]) -> list[str]:
    """The lines about words, and the last one."""
    handler = Lines()
    logging.getLogger("fairseq_cli.eval_lm").addHandler(handler)
    parsed = options.parse_args_and_arch(options.get_eval_lm_parser(), input_args=arguments)
    eval_lm.main(convert_namespace_to_omegaconf(parsed))
    logging.getLogger("fairseq_cli.eval_lm").removeHandler(handler)
    start = next(i for i, line in enumerate(handler.lines) if line.endswith(" examples"))
    return [line for line in handler.lines[start + 1:] if not line.startswith("Evaluated")]


if __name__ == "__main__":
    main()
