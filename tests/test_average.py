"""Averages of checkpoints: fairseq's files and folders of ours, and which are chosen."""

from __future__ import annotations

import shutil

import jax
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import write_data
from user_path import MODEL

import seqjax
from seqjax import average, checkpoints
from seqjax.config import ConfigError
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.writer import write_pt

RNG = np.random.default_rng(0)


def write(path, scale=1.0, **changes):
    """A small checkpoint; gives its `model`."""
    model = {"encoder.version": np.array([3.0], np.float32),
             "half": (scale * RNG.standard_normal(5)).astype(np.float16),
             "full": (scale * RNG.standard_normal((2, 3))).astype(np.float32),
             "whole": np.array([7, -8, int(scale)], np.int64), **changes}
    write_pt(path, {"model": model, "args": None, "cfg": {"model": {"arch": "transformer"}},
                    "optimizer_history": [{"num_updates": int(scale)}],
                    "last_optimizer_state": {"state": {}}})
    return model


def test_fairseq_s_arithmetic(tmp_path):
    models = [write(tmp_path / f"{i}.pt", i) for i in (1.0, 2.0, 4.0)]
    average.main(["--inputs", *(str(tmp_path / f"{i}.pt") for i in (1.0, 2.0, 4.0)),
                  "--output", str(tmp_path / "out.pt")])
    found = read_pt(tmp_path / "out.pt")
    assert list(found["model"]) == list(models[0])
    half = sum(m["half"].astype(np.float32) for m in models) / np.float32(3)
    assert found["model"]["half"].dtype == np.float32
    np.testing.assert_array_equal(found["model"]["half"], half)
    np.testing.assert_array_equal(
        found["model"]["full"], (models[0]["full"] + models[1]["full"] + models[2]["full"]) / 3)
    np.testing.assert_array_equal(found["model"]["whole"], [7, -8, 2])  # 7 // 3 rounds down
    assert found["optimizer_history"] == [{"num_updates": 1}]  # the first one's
    assert found["last_optimizer_state"] is None


def test_a_real_checkpoint_averaged_with_itself(tmp_path):
    average.main(["--inputs", str(MODEL), str(MODEL), "--output", str(tmp_path / "out.pt")])
    before, after = read_pt(MODEL), read_pt(tmp_path / "out.pt")
    for name, value in before["model"].items():
        np.testing.assert_array_equal(after["model"][name], value)
    assert after["cfg"] == before["cfg"]


@pytest.fixture
def saves(tmp_path):
    """A folder such as fairseq's --save-dir."""
    for epoch in range(1, 6):
        write(tmp_path / f"checkpoint{epoch}.pt", epoch)
        write(tmp_path / f"checkpoint_{epoch}_{epoch * 100}.pt", epoch)
        write(tmp_path / f"checkpoint.best_loss_{6 - epoch}.250.pt", epoch)
    write(tmp_path / "checkpoint_last.pt", 9.0)
    return tmp_path


def chosen(*words):
    paths = average.select(average.parse(["--inputs", *words, "--output", "o.pt"]))
    return [path.rpartition("/")[2] for path in paths]


def test_which_are_taken(saves):
    best = [str(p) for p in saves.glob("checkpoint.best*")]
    folder = str(saves)
    assert chosen(folder, "--num-epoch-checkpoints", "2") == ["checkpoint5.pt", "checkpoint4.pt"]
    assert chosen(folder, "--num-epoch-checkpoints", "2", "--checkpoint-upper-bound", "3") == [
        "checkpoint3.pt", "checkpoint2.pt"]
    assert chosen(folder, "--num-update-checkpoints", "2", "--checkpoint-upper-bound", "450") == [
        "checkpoint_4_400.pt", "checkpoint_3_300.pt"]
    assert chosen(*best, "--num-best-checkpoints", "2") == [
        "checkpoint.best_loss_1.250.pt", "checkpoint.best_loss_2.250.pt"]
    with pytest.raises(ConfigError, match="has 5 checkpointE.pt files, but 6"):
        chosen(folder, "--num-epoch-checkpoints", "6")
    with pytest.raises(ConfigError, match="does not end in _VALUE.pt"):
        chosen(str(MODEL), "--num-best-checkpoints", "1")
    with pytest.raises(FileNotFoundError, match="nosuch"):
        chosen(f"{folder}/nosuch.pt")
    for wrong in (["--checkpoint-upper-bound", "3"], ["--num-epoch-checkpoints", "0"]):
        with pytest.raises(SystemExit):
            chosen(folder, *wrong)


def test_folders_of_ours(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    runs = [write_checkpoint(tmp_path / f"run{i}", data, seed=i) for i in range(2)]
    out = tmp_path / "out"
    average.main(["--inputs", *map(str, runs), "--output", str(out)])
    a, b, c = (checkpoints.read_params(checkpoints.find(p)) for p in (*runs, out))
    jax.tree.map(lambda x, y, z: np.testing.assert_array_equal(z, (x + y) / 2), a, b, c)
    assert seqjax.load(out).translate("aa1", max_len_b=5) is not None
    # Several updates of one work folder.
    steps = runs[0] / "checkpoints"
    shutil.copytree(runs[1] / "checkpoints" / "1", steps / "7")
    found = average.select(average.parse(
        ["--inputs", str(runs[0]), "--num-update-checkpoints", "2", "--output", "o"]))
    assert [p.rpartition("/")[2] for p in found] == ["7", "1"]
    with pytest.raises(ConfigError, match="use --num-update-checkpoints"):
        chosen(str(runs[0]), "--num-epoch-checkpoints", "1")


@pytest.mark.parametrize(("make", "output", "message"), [
    (lambda p: write(p / "b.pt", more=np.zeros(2, np.float32)), "o.pt", "more: absent in the fir"),
    (lambda p: write(p / "b.pt", full=np.zeros((2, 4), np.float32)), "o.pt", "full: .2, 3. in"),
    (lambda p: write_pt(p / "b.pt", {"weights": 1}), "o.pt", "no `model`"),
    (lambda p: (p / "b.pt").mkdir(), "o.pt", "cannot be averaged together"),
    (lambda p: write(p / "b.pt"), "o", "NAME.pt"),
])
def test_mistakes_leave_nothing(tmp_path, make, output, message):
    write(tmp_path / "a.pt")
    make(tmp_path)
    with pytest.raises(ConfigError, match=message):
        average.main(["--inputs", str(tmp_path / "a.pt"), str(tmp_path / "b.pt"),
                      "--output", str(tmp_path / output)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]
