"""C12: from `python -m seqjax.train` to the end of the first update, transformer-base, with
an empty compilation cache and with a warm one; beside it plain torch's import and first
update."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import harness, synthetic
from benchmarks.harness import Options, Row
from benchmarks.sizes import SIZES, Size

TITLE = "Start, CPU"
GATE = {"cold": 25.0, "warm": 8.0}
PAIRS = 2000
TOKENS = 1024

_PIN = (
    "import os, sys\n"
    "if hasattr(os, 'sched_setaffinity'):\n"
    "    os.sched_setaffinity(0, {int(c) for c in sys.argv.pop(1).split(',')})\n"
)
_SEQJAX = _PIN + (
    "import runpy; runpy.run_module('seqjax.train', run_name='__main__', alter_sys=True)"
)
_TORCH = _PIN + """
import torch
from benchmarks.torch_side import Train
size, pairs, tokens, cores = sys.argv[1:]
side = Train(size=size, pairs=int(pairs), max_tokens=int(tokens), dropout=0.1, cores=int(cores))
side.updates(first=0, count=1)
print("first update", flush=True)
"""


def run(options: Options) -> list[Row]:
    """Wall seconds, imports and reading the data included; smaller is better."""
    size = "micro" if options.quick else "base"
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write_data(root / "data", SIZES[size])
        config = write_config(root / "config.py", SIZES[size], root / "data")
        cold = _seqjax(root, config, "cold", options)
        warm = _seqjax(root, config, "warm", options)
    torch = _first_line(
        [_TORCH, _cores(options), size, str(PAIRS), str(TOKENS), str(options.cores)],
        "first update", dict(os.environ),
    )
    return [
        Row(
            id="C12", workload=f"{size}, {name} compilation cache", metric="s", ours=seconds,
            opponent="plain torch, import and first update", theirs=torch,
            ratio=seconds / torch, floor=None if options.quick else GATE[name],
        )
        for name, seconds in (("cold", cold), ("warm", warm))
    ]


def write_data(folder: pathlib.Path, size: Size) -> None:
    """A data folder with `PAIRS` synthetic training pairs."""
    from seqjax.data import indexed

    folder.mkdir()
    corpus = synthetic.corpus(PAIRS, size.vocab)
    words = "".join(f"w{i} {size.vocab - i}\n" for i in range(size.vocab - 4))
    for lang, sentences in (("de", corpus.source), ("en", corpus.target)):
        (folder / f"dict.{lang}.txt").write_text(words)
        prefix = folder / f"train.de-en.{lang}"
        with indexed.IndexedWriter(prefix, dtype=indexed.dtype_for(size.vocab)) as writer:
            for sentence in sentences:
                writer.append(sentence)


def write_config(path: pathlib.Path, size: Size, data: pathlib.Path) -> pathlib.Path:
    """A configuration that stops after one update."""
    model = {"name": "transformer", "share_all_embeddings": True, "dropout": 0.1}
    for side, layers in (("encoder", size.encoder_layers), ("decoder", size.decoder_layers)):
        model |= {
            f"{side}_embed_dim": size.dim, f"{side}_ffn_embed_dim": size.ffn,
            f"{side}_layers": layers, f"{side}_attention_heads": size.heads,
        }
    values = {
        "task": {"name": "translation", "data": str(data), "source_lang": "de",
                 "target_lang": "en"},
        "model": model, "train": {"max_update": 1}, "valid": {"enabled": False},
        "batching": {"mode": "packed", "max_tokens": TOKENS, "pack_length": 256},
        "log": {"interval_updates": 1, "tensorboard": False},
    }
    text = json.dumps(values)
    path.write_text(f"import json\ndef get_config():\n    return json.loads({text!r})\n")
    return path


def _seqjax(root: pathlib.Path, config: pathlib.Path, name: str, options: Options) -> float:
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(root / "cache")}
    arguments = ["--config", str(config), "--workdir", str(root / name)]
    return _first_line([_SEQJAX, _cores(options), *arguments], "epoch 001:", env)


def _cores(options: Options) -> str:
    return ",".join(map(str, harness.pick_cores(options.cores)))


def _first_line(command: list[str], text: str, env: dict[str, str]) -> float:
    """Seconds until the process prints a line with `text`; it may then finish."""
    env["PYTHONPATH"] = str(harness.ROOT)
    start, seconds, said = time.perf_counter(), None, []
    with subprocess.Popen(
        [sys.executable, "-c", *command], cwd=harness.ROOT, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if seconds is None and text in line:
                seconds = time.perf_counter() - start
    if process.returncode or seconds is None:
        raise harness.BenchmarkError("its process failed:\n" + "".join(said[-20:]))
    return seconds
