"""Records what fairseq's commands do with one tiny model, for the tests of the same path here.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither.

    python scripts/record_user_path.py DATA_BIN tests/goldens/user_path

DATA_BIN is what fairseq-preprocess makes of tests/goldens/preprocess with
`--joined-dictionary`; name it, and the output, by relative paths, which the file will hold.
Writes `model.pt` (update 50, with Adam's state and the place in the data), `log.json` (what
fairseq logs going on from it for 8 updates) and the output of fairseq-generate, -interactive
and -validate.
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

MODEL = ("--arch transformer --share-all-embeddings --encoder-embed-dim 12"
         " --encoder-ffn-embed-dim 24 --encoder-layers 1 --encoder-attention-heads 2"
         " --decoder-layers 1 --decoder-attention-heads 2 --max-source-positions 128"
         " --max-target-positions 128 --dropout 0")
TRAIN = ("--task translation -s de -t en --optimizer adam --adam-betas (0.9,0.98)"
         " --weight-decay 1e-3 --lr 2e-2 --lr-scheduler inverse_sqrt --warmup-updates 10"
         " --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --report-accuracy"
         " --max-tokens 900 --update-freq 2 --clip-norm 0.5 --seed 3 --cpu --num-workers 0"
         " --no-epoch-checkpoints --disable-validation --log-format json --log-interval 1")
DECODE = "--gen-subset test --cpu --max-tokens 500 --beam 4 --max-len-b 30"
PHRASES = ("\tthe children of Israel\tGod", "", "\tw@@ en@@ t ou@@ t\tw@@ en@@ t",
           "\tunheard-of\tand the\tand", "\tJes@@ us")
"""What follows the sources in constrained decoding."""
GENERATE = {
    "generate": "--nbest 2 --remove-bpe --required-batch-size-multiple 1",
    "generate_multiple": "--lenpen 0.6 --required-batch-size-multiple 2",
    "generate_sacrebleu": "--scoring sacrebleu --remove-bpe --required-batch-size-multiple 1",
    "generate_padded": "--max-len-a 0.4 --max-len-b 2 --required-batch-size-multiple 1",
    "generate_prefix": "--prefix-size 2 --remove-bpe --required-batch-size-multiple 1",
    "generate_align": "--nbest 2 --print-alignment --remove-bpe --required-batch-size-multiple 1",
    "generate_align_soft": "--print-alignment soft --required-batch-size-multiple 1",
    "score_reference": "--score-reference --remove-bpe --required-batch-size-multiple 1",
}


def run(command: str, *arguments: str, stdin: str | None = None) -> str:
    """Output of one of fairseq's commands."""
    done = subprocess.run([sys.executable, "-m", f"fairseq_cli.{command}", *arguments],
                          input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"fairseq_cli.{command}: {done.stderr[-3000:]}")
    return done.stdout + ("\n" + done.stderr if command in ("train", "validate") else "")


def logged(text: str) -> list[dict[str, str]]:
    """The json lines of an interval or a validation."""
    return [json.loads(x) for x in re.findall(r"\| (?:train_inner|valid) \| (\{.*\})", text)]


def record_constraints(data: str, out: pathlib.Path, sources: list[str]) -> None:
    """Constrained decoding, in order and in any order."""
    lines = [source + phrases for source, phrases in zip(sources, PHRASES, strict=True)]
    for order in ("ordered", "unordered"):
        options = ("--beam 6 --max-len-b 40 --cpu --buffer-size 3 --max-tokens 300"
                   f" --constraints {order}")
        text = run("interactive", data, "--path", str(out / "model.pt"), *options.split(),
                   stdin="\n".join(lines) + "\n")
        kept = [x for x in text.splitlines() if x[:2] in ("S-", "W-", "C-", "H-", "D-", "P-")]
        name = f"interactive_constraints_{order}.txt"
        (out / name).write_text("\n".join([f"# {options}", *kept]) + "\n")


def main() -> None:
    data, out = sys.argv[1], pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    work = out / "work"
    train = [data, *MODEL.split(), *TRAIN.split(), "--save-dir", str(work)]
    run("train", *train, "--max-update", "50")
    shutil.copy(work / "checkpoint_last.pt", out / "model.pt")
    log = logged(run("train", *train, "--max-update", "58"))
    (out / "log.json").write_text(json.dumps(
        {"args": train[1:-2], "updates": [x for x in log if "num_updates" in x][:8]}, indent=1))
    shutil.rmtree(work)
    path = ["--path", str(out / "model.pt")]
    for name, options in GENERATE.items():
        text = run("generate", data, *path, *DECODE.split(), *options.split())
        kept = [x for x in text.splitlines() if x[:2] in ("S-", "T-", "H-", "D-", "P-", "A-", "Ge")]
        header = f"# {DECODE} {options}"
        (out / f"{name}.txt").write_text("\n".join([header, *kept]) + "\n")
    sources = [x.partition("\t")[2] for x in text.splitlines() if x.startswith("S-")][:5]
    options = "--beam 3 --max-len-b 30 --cpu --buffer-size 3 --max-tokens 300"
    text = run("interactive", data, *path, *options.split(), stdin="\n".join(sources) + "\n")
    kept = [x for x in text.splitlines() if x[:2] in ("S-", "W-", "H-", "D-", "P-")]
    (out / "interactive.txt").write_text("\n".join([f"# {options}", *kept]) + "\n")
    record_constraints(data, out, sources)
    options = "--valid-subset valid --max-tokens 700 --log-format json --cpu --task translation"
    options += " --required-batch-size-multiple 1"
    found = run("validate", data, *path, *options.split())
    (out / "validate.json").write_text(json.dumps(logged(found)[-1], indent=1))
    packed.pack(out)


if __name__ == "__main__":
    main()
