"""A checkpoint of before training states had room for more than parameters: it loads, and
training goes on from it with the numbers of the code of its day.

`tests/goldens/old_checkpoint` was written by scripts/record_old_checkpoint.py, which says how.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import packed
import pytest
from tiny_run import metrics

import seqjax
from seqjax import checkpoints as ck
from seqjax.checkpoints import checksums

GOLDEN = packed.unpacked(packed.GOLDENS) / "old_checkpoint"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy, in which its relative paths hold."""
    copy = tmp_path / "old"
    shutil.copytree(GOLDEN, copy)
    monkeypatch.chdir(copy)
    return copy


def same_machine() -> bool:
    """Whether programs are compiled here as they were where the numbers come from."""
    script = packed.GOLDENS.parent.parent / "scripts" / "record_old_checkpoint.py"
    spec = importlib.util.spec_from_file_location("record_old_checkpoint", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return (jax.__version__, module.processor()) == (EXPECTED["jax"], EXPECTED["processor"])


def test_it_is_of_before(folder):
    assert sorted(p.name for p in (folder / "run/checkpoints/4").iterdir() if p.is_dir()) == [
        "about", "params", "state"]


def test_it_loads(folder):
    (found,) = seqjax.load("run", quiet=True).generate([EXPECTED["sentence"]])[0][:1]
    assert found.text == EXPECTED["translation"]
    assert found.score == pytest.approx(EXPECTED["score"], rel=1e-5)


GO_ON = """
import json, pathlib
from tiny_run import resolve
from seqjax.training import train_loop
raw = json.loads(pathlib.Path("config.json").read_text())
raw["train"]["max_update"] = 6
train_loop.train(resolve(raw), workdir="run")
"""


def test_training_goes_on_as_it_did(folder, one_device_env):
    """By a process that compiles as the recording script does, which decides about the last
    bits: on one device, and otherwise than the suite."""
    env = {**one_device_env, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    env["PYTHONPATH"] += os.pathsep + str(pathlib.Path(__file__).parent)
    subprocess.run([sys.executable, "-c", GO_ON], cwd=folder, env=env, check=True)
    found = [{key: line[key] for key in ("num_updates", "loss", "gnorm")}
             for line in metrics(folder / "run", "train_inner")]
    newest = ck.find("run", which="last")
    assert newest.name == "6" and not (newest / "extra").exists()
    params = ck.read_params(newest)
    sums = {checksums.name_of(path): checksums.crc(x)
            for path, x in jax.tree_util.tree_leaves_with_path(params)}
    assert [line["num_updates"] for line in found] == [5, 6]
    for ours, theirs in zip(found, EXPECTED["updates"], strict=True):
        np.testing.assert_allclose([ours["loss"], ours["gnorm"]],
                                   [theirs["loss"], theirs["gnorm"]], rtol=1e-5)
    assert sums.keys() == EXPECTED["params"].keys()
    if same_machine():
        assert found == EXPECTED["updates"] and sums == EXPECTED["params"]
