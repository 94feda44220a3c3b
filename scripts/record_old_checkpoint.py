"""Writes tests/goldens/old_checkpoint: a checkpoint, and what the code of its day did next.

    python scripts/record_old_checkpoint.py tests/goldens/old_checkpoint

What is there was written by the code of commit 65df8a8, as it was before training states had room
for anything but parameters and the optimizer (`TrainState.extra`). It is kept so that a test
shows that checkpoints of before still load, and that training goes on from them with the same
numbers. Do not write it again with newer code: a copy made today proves nothing about
yesterday. To keep a checkpoint of another day, give another folder.

    data-bin/          a corpus of 48 made-up sentence pairs
    run/checkpoints/4  the checkpoint after 4 updates (Adam, dropout, two micro-batches each)
    config.json        what it was trained under; paths are relative to this folder
    expected.json      losses and gradient norms of updates 5 and 6, a CRC-32 of every parameter
                       after them; a translation by the checkpoint; where all that was computed
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

SENTENCE = "aa1 aa4 aa2"


def processor() -> str:
    """What the numbers of a compiled program depend on beside the version of JAX."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def updates(workdir: pathlib.Path) -> list[dict[str, float]]:
    """Loss and gradient norm of every update that was logged."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{key: line[key] for key in ("num_updates", "loss", "gnorm")}
            for line in lines if line["group"] == "train_inner"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder.resolve()
    if (folder / "expected.json").exists():
        sys.exit(f"{folder}: there is a checkpoint of before; give another folder")
    # As tests do: what is compiled decides about the last bits.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import packed
    from tiny_run import raw_config, resolve, write_data

    import seqjax
    from seqjax.config import to_plain
    from seqjax.training import checkpoints, checksums, train_loop

    write_data(folder / "data-bin")
    os.chdir(folder)
    config = resolve(raw_config(
        pathlib.Path("data-bin"), train={"max_update": 4, "update_freq": [2]},
        batching={"mode": "bucketed", "max_tokens": 48, "max_sentences": 4},
        log={"interval_updates": 1}, checkpoint={"keep_last": 2}))
    train_loop.train(config, workdir="run")
    (folder / "config.json").write_text(json.dumps(to_plain(config), indent=1) + "\n")
    shutil.copytree("run", "further")
    further = resolve({**to_plain(config), "train": {**to_plain(config)["train"],
                                                     "max_update": 6}})
    train_loop.train(further, workdir="further")
    params = checkpoints.read_params(checkpoints.find("further", which="last"))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    translation = seqjax.load("run", quiet=True).generate([SENTENCE])[0][0]
    expected = {
        "updates": updates(folder / "further")[4:],
        "params": {checksums.name_of(path): checksums.crc(x) for path, x in leaves},
        "sentence": SENTENCE, "translation": translation.text, "score": translation.score,
        "jax": jax.__version__, "processor": processor(),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.rmtree("further")
    for file in ("train.log", "train.lock", "config.json", "metrics.jsonl"):
        (folder / "run" / file).unlink(missing_ok=True)
    for file in folder.rglob("commit_success.txt"):  # they name the folder on this machine
        file.write_text(file.read_text().replace(f"{folder}/", ""))
    packed.pack(folder / "run")


if __name__ == "__main__":
    main()
