"""Records what fairseq computes with tiny models that know languages by tokens.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither.

    python scripts/record_multilingual.py tests/goldens/multilingual

Writes `data/` (made-up words of three languages, as fairseq-preprocess makes them of the text
beside them) and for each case, a model that fairseq-train made of them (`CASES`):
`checkpoint.pt` without its optimizer; `forward.npz`: a batch of each direction (sources padded on
the left), `lprobs`, the criterion's `loss`, `ntokens`, and the gradient of every parameter;
`hypos.json`: hypotheses per direction and option set, natural logarithms; `generate.txt`,
`score_reference.txt`: what fairseq-generate prints.

    python scripts/record_multilingual.py --read tests/goldens/multilingual/data FILE.pt CASE

prints the hypotheses of a file that seqjax wrote (`convert --to fairseq`) as fairseq finds them.

fairseq's own task for mBART fails on its main branch (`self.args` is not there any more); here
it is given what it asks for. BART's architecture is built with scaled embeddings, as mBART's.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import random
import runpy
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.tasks.translation_from_pretrained_bart import TranslationFromPretrainedBARTTask

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

LANGUAGES = ("aa", "bb", "cc")
WORDS = 9
PAIRS = {"aa-bb": 90, "aa-cc": 40}
_SIZES = ("--encoder-embed-dim 16 --encoder-ffn-embed-dim 24 --encoder-layers 1"
          " --encoder-attention-heads 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 24"
          " --decoder-layers 1 --decoder-attention-heads 2 --max-source-positions 30"
          " --max-target-positions 30 --dropout 0.1 --share-all-embeddings")
_TRAIN = ("--optimizer adam --adam-betas (0.9,0.98) --lr 1e-2 --lr-scheduler inverse_sqrt"
          " --warmup-updates 20 --criterion label_smoothed_cross_entropy --label-smoothing 0.1"
          " --max-tokens 160 --clip-norm 1 --seed 3 --cpu --num-workers 0 --no-epoch-checkpoints"
          " --disable-validation --max-update 120 --required-batch-size-multiple 1")
_MULTI = ("--task translation_multi_simple_epoch --arch transformer --lang-pairs"
          " aa-bb,bb-aa,aa-cc --langs aa,bb,cc --sampling-method temperature"
          " --sampling-temperature 2 --decoder-langtok")
CASES = {
    "mbart": "--task translation_from_pretrained_bart --langs aa,bb,cc -s aa -t bb"
             " --arch bart_base --layernorm-embedding --encoder-normalize-before"
             " --decoder-normalize-before",
    "m2m": f"{_MULTI} --encoder-langtok src --encoder-normalize-before"
           " --decoder-normalize-before",
    "replacing": f"{_MULTI} --encoder-langtok tgt --lang-tok-replacing-bos-eos"
                 " --lang-tok-style mbart",
}
DIRECTIONS = {"mbart": ("aa-bb",), "m2m": ("aa-bb", "bb-aa", "aa-cc"),
              "replacing": ("bb-aa", "aa-cc")}
SEARCHES = {"beam4": dict(beam=4, nbest=2), "greedy": dict(beam=1),
            "lenpen": dict(beam=3, lenpen=0.3, min_len=6), "short": dict(beam=3, max_len_b=4)}


def mend() -> None:
    """fairseq's task as its authors meant it, and embeddings that are scaled."""
    TranslationFromPretrainedBARTTask.args = property(lambda self: self.cfg)
    base = ARCH_CONFIG_REGISTRY["bart_base"]

    def scaled(args: Any) -> None:
        args.no_scale_embedding = False
        base(args)

    ARCH_CONFIG_REGISTRY["bart_base"] = scaled


def run(command: str, *arguments: str) -> str:
    """Output of one of fairseq's commands, mended."""
    done = subprocess.run([sys.executable, __file__, "--cli", command, *arguments],
                          capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"fairseq_cli.{command}: {done.stderr[-3000:]}")
    return done.stdout


# ---- data ----


def write_data(folder: pathlib.Path) -> None:
    """Sentences whose words stand for each other one by one."""
    rng = random.Random(5)
    text = folder / "text"
    text.mkdir(parents=True)
    (folder / "dict.txt").write_text("".join(
        f"{lang}{i} {100 - i}\n" for i in range(WORDS) for lang in LANGUAGES))
    for pair, count in PAIRS.items():
        for split, n in (("train", count), ("valid", 6), ("test", 6)):
            lines = [[rng.randrange(WORDS) for _ in range(rng.randint(2, 7))] for _ in range(n)]
            for lang in pair.split("-"):
                body = "\n".join(" ".join(f"{lang}{i}" for i in line) for line in lines)
                (text / f"{split}.{pair}.{lang}").write_text(body + "\n")
        source, target = pair.split("-")
        run("preprocess", "-s", source, "-t", target, "--destdir", str(folder),
            "--srcdict", str(folder / "dict.txt"), "--tgtdict", str(folder / "dict.txt"),
            *(w for s in ("train", "valid", "test") for w in (
                f"--{s}pref", str(text / f"{s}.{pair}"))))
    (folder / "preprocess.log").unlink()
    (folder / "dict.txt").unlink()


# ---- a case ----


def loaded(data: pathlib.Path, path: pathlib.Path, direction: str) -> tuple[Any, Any, Any]:
    """Model, task for one direction, criterion."""
    source, target = direction.split("-")
    models, args, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(path)], arg_overrides={"data": str(data), "source_lang": source,
                                    "target_lang": target})
    return models[0], task, task.build_criterion(args.criterion)


def batch_of(task: Any, split: str) -> dict[str, Any]:
    task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[i] for i in range(len(dataset))])


def forward(data: pathlib.Path, path: pathlib.Path, direction: str) -> dict[str, np.ndarray]:
    """What the model computes of the split valid, without dropout."""
    model, task, criterion = loaded(data, path, direction)
    sample = batch_of(task, "valid")
    model.eval()
    loss, size, log = criterion(model, sample)
    loss.backward()
    with torch.no_grad():
        lprobs = model.get_normalized_probs(model(**sample["net_input"]), log_probs=True)
    found = {"source": sample["net_input"]["src_tokens"], "target": sample["target"],
             "prev": sample["net_input"]["prev_output_tokens"], "ids": sample["id"],
             "lprobs": lprobs, "loss": loss.detach(), "sample_size": torch.tensor(size),
             "ntokens": torch.tensor(sample["ntokens"]), "nll_loss": torch.tensor(
                 float(log["nll_loss"])),
             **{f"grad/{k}": v.grad for k, v in model.named_parameters() if v.grad is not None}}
    return {f"{direction}/{k}": v.numpy() for k, v in found.items()}


def hypotheses(
    data: pathlib.Path, path: pathlib.Path, direction: str, options_: dict[str, Any]
) -> list[Any]:
    """Of each sentence of the split test, in its order."""
    model, task, _ = loaded(data, path, direction)
    sample = batch_of(task, "test")
    model.eval()
    model.make_generation_fast_(beamable_mm_beam_size=None, need_attn=False)
    given = argparse.Namespace(**{"max_len_a": 0, "max_len_b": 20, **options_})
    generator = task.build_generator([model], given)
    found = task.inference_step(generator, [model], sample)
    order = np.argsort(sample["id"].numpy())
    keep = options_.get("nbest", 1)
    return [[{"tokens": h["tokens"].tolist(), "score": float(h["score"]),
              "positional_scores": h["positional_scores"].tolist()} for h in found[i][:keep]]
            for i in order]


def generate(data: pathlib.Path, path: pathlib.Path, case: str, direction: str) -> None:
    """What fairseq-generate prints, beside the checkpoint."""
    flags = CASES[case].split()
    at = flags.index("--task")
    flags = flags[at:at + 2] + [
        w for name in ("--langs", "--lang-pairs", "--encoder-langtok", "--lang-tok-style")
        if name in flags for w in (name, flags[flags.index(name) + 1])] + [
        w for w in ("--decoder-langtok", "--lang-tok-replacing-bos-eos") if w in flags]
    source, target = direction.split("-")
    for name, more in (("generate", "--nbest 2"), ("score_reference", "--score-reference")):
        words = [*flags, "-s", source, "-t", target, "--gen-subset", "test", "--beam", "3",
                 "--max-len-b", "20", "--cpu", "--required-batch-size-multiple", "1",
                 *more.split()]
        text = run("generate", str(data), "--path", str(path), *words)
        kept = [x for x in text.splitlines() if x[:2] in ("S-", "T-", "H-", "D-", "P-", "Ge")]
        (path.parent / f"{name}.txt").write_text("\n".join(["# " + " ".join(words), *kept]) + "\n")


def record(case: str, data: pathlib.Path, out: pathlib.Path) -> None:
    work = out / "work"
    run("train", str(data), *CASES[case].split(), *_SIZES.split(), *_TRAIN.split(),
        "--save-dir", str(work))
    state = torch.load(work / "checkpoint_last.pt", weights_only=False)
    shutil.rmtree(work)
    state["last_optimizer_state"] = None
    state["extra_state"] = {k: state["extra_state"][k] for k in ("train_iterator", "val_loss")}
    path = out / "checkpoint.pt"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(buffer.getvalue())
    arrays, found = {}, {}
    for direction in DIRECTIONS[case]:
        arrays |= forward(data, path, direction)
        found[direction] = {name: {"options": options_, "hypotheses": hypotheses(
            data, path, direction, options_)} for name, options_ in SEARCHES.items()}
    np.savez_compressed(out / "forward.npz", **arrays)
    (out / "hypos.json").write_text(json.dumps(found))
    generate(data, path, case, DIRECTIONS[case][-1])
    print(out, {p.name: p.stat().st_size for p in sorted(out.iterdir())})


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    if not (folder / "data").exists():
        write_data(folder / "data")
    mend()
    for case in sys.argv[2:] or CASES:
        out = folder / case
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        record(case, folder / "data", out)
        packed.pack(out)


def read(data: str, path: str, case: str) -> None:
    """Whether fairseq loads a file of ours, and what it finds with it."""
    mend()
    found = {direction: hypotheses(pathlib.Path(data), pathlib.Path(path), direction,
                                   SEARCHES["beam4"]) for direction in DIRECTIONS[case]}
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "--read":
        read(*sys.argv[2:])
    elif sys.argv[1] == "--cli":
        mend()
        module = f"fairseq_cli.{sys.argv[2]}"
        sys.argv = [module, *sys.argv[3:]]
        runpy.run_module(module, run_name="__main__")
    else:
        main()
