"""Records how fairseq goes on training a tiny model with word alignments.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither.

    python scripts/record_aligned_training.py DATA_BIN tests/goldens/aligned_training

DATA_BIN is what `aligned_data_folder` of tests/user_path.py makes; name it, and the output, by
relative paths, which the file will hold. Writes `model.pt` (update 50, with Adam's state and
the place in the data), `log.json` (what fairseq logs going on from it for 6 updates),
`validate.json` (what it says of the split valid at update 50) and `generate_align.txt`.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import sys

from record_user_path import DECODE, logged, run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

MODEL = ("--arch transformer_align --share-all-embeddings --encoder-embed-dim 12"
         " --encoder-ffn-embed-dim 24 --encoder-layers 1 --encoder-attention-heads 2"
         " --decoder-layers 2 --decoder-attention-heads 2 --max-source-positions 128"
         " --max-target-positions 128 --dropout 0 --alignment-layer 1 --alignment-heads 1"
         " --full-context-alignment")
TRAIN = ("--task translation --load-alignments -s de -t en --optimizer adam"
         " --adam-betas (0.9,0.98) --lr 2e-2 --lr-scheduler inverse_sqrt --warmup-updates 10"
         " --criterion label_smoothed_cross_entropy_with_alignment --label-smoothing 0.1"
         " --alignment-lambda 0.5 --max-tokens 900 --clip-norm 0.5 --seed 3 --cpu"
         " --num-workers 0 --no-epoch-checkpoints --disable-validation --log-format json"
         " --log-interval 1")


def main() -> None:
    data, out = sys.argv[1], pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    work = out / "work"
    train = [data, *MODEL.split(), *TRAIN.split(), "--save-dir", str(work)]
    run("train", *train, "--max-update", "50")
    shutil.copy(work / "checkpoint_last.pt", out / "model.pt")
    log = logged(run("train", *train, "--max-update", "56"))
    (out / "log.json").write_text(json.dumps(
        {"args": train[1:-2], "updates": [x for x in log if "num_updates" in x][:6]}, indent=1))
    shutil.rmtree(work)
    options = "--valid-subset valid --max-tokens 700 --log-format json --cpu --task translation"
    options += " --load-alignments --required-batch-size-multiple 1"
    found = run("validate", data, "--path", str(out / "model.pt"), *options.split())
    (out / "validate.json").write_text(json.dumps(logged(found)[-1], indent=1))
    options = "--print-alignment --required-batch-size-multiple 1"
    text = run("generate", data, "--path", str(out / "model.pt"), *DECODE.split(), *options.split())
    kept = [x for x in text.splitlines() if x[:2] in ("S-", "T-", "H-", "D-", "P-", "A-", "Ge")]
    header = f"# {DECODE} {options}"
    (out / "generate_align.txt").write_text("\n".join([header, *kept]) + "\n")
    packed.pack(out)


if __name__ == "__main__":
    main()
