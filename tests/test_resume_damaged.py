"""A run whose newest checkpoint is damaged goes on from the one before, and says so."""

from __future__ import annotations

import pathlib
import shutil

import jax
import numpy as np
import pytest
from tiny_run import raw_config, resolve, write_data

from seqjax import checkpoints as ck
from seqjax.training import train_loop


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


def run(data, workdir, updates=6, **sections):
    train_loop.train(resolve(raw_config(
        data, train={"max_update": updates, "lr": [0.01]}, batching={"max_tokens": 128},
        checkpoint={"every_updates": 2, "keep_last": 3, **sections.pop("checkpoint", {})},
        **sections)), workdir=str(workdir))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "first"
    run(data, workdir)
    assert sorted(ck.steps_in(workdir / "checkpoints")) == [2, 4, 6]
    return workdir


def spoil(folder: pathlib.Path, what: str) -> None:
    """Damages a checkpoint."""
    if what == "no record":
        (folder / "about" / "record.json").unlink()
        return
    if what == "dictionary":
        (folder / "about" / "assets" / "dict.bb.txt").write_text("x 1\n")
        return
    part = "state" if what == "moments" else "params"
    files = [f for f in (folder / part).rglob("*") if f.is_file() and f.parent.name == "d"]
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:10] + np.random.default_rng(0).bytes(len(content) - 10))


@pytest.mark.parametrize("what", ["weights", "moments", "no record", "dictionary"])
def test_continuing_falls_back(data, trained, tmp_path, capsys, what):
    shutil.copytree(trained, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    spoil(folder / "6", what)
    wanted = ck.read_params(trained / "checkpoints" / "6")
    capsys.readouterr()
    run(data, tmp_path / "run")
    out = capsys.readouterr().err
    assert f"warning: {folder / '6'}: damaged" in out
    assert f"kept as {folder / '6.damaged'}" in out
    assert f"falling back to the checkpoint before, {folder / '4'}" in out
    assert f"continuing {folder / '4'} at update 4" in out
    # Update 6 is there again, the same as without the damage, and the damaged one beside it.
    found = ck.read_params(folder / "6")
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert (folder / "6.damaged").is_dir()


def test_another_run_s_checkpoints_stay_as_they_are(data, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "first")
    source = tmp_path / "first" / "checkpoints"
    spoil(source / "6", "weights")
    run(data, tmp_path / "second", resume_from=str(tmp_path / "first"))
    out = capsys.readouterr().err
    assert f"continuing {source / '4'}" in out and "kept as" not in out
    assert sorted(f.name for f in source.iterdir()) == ["2", "4", "6"]
    with pytest.raises(ck.DamagedError, match="beside it: 2, 4"):  # this one was asked for
        run(data, tmp_path / "third", resume_from=str(source / "6"))


def test_none_is_whole(data, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for name in ("2", "4", "6"):
        spoil(folder / name, "weights")
    with pytest.raises(ck.DamagedError, match="no checkpoint is whole: .*another --workdir"):
        run(data, tmp_path / "run")
    assert sorted(f.name for f in folder.iterdir()) == ["2", "4", "6"]
    for name in ("2", "4", "6"):
        spoil(folder / name, "no record")
    with pytest.raises(ck.DamagedError, match="about/record.json is missing"):
        run(data, tmp_path / "run")


def test_fine_tuning_refuses(data, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "first")
    spoil(tmp_path / "first" / "checkpoints" / "6", "weights")
    with pytest.raises(ck.DamagedError, match="beside it: 2, 4"):
        run(data, tmp_path / "run", init_from=str(tmp_path / "first" / "checkpoints" / "6"))


def test_weights_that_are_not_finite_can_be_asked_for(data, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "first")
    folder = tmp_path / "first" / "checkpoints" / "6"
    (folder / "about" / "assets" / "dict.bb.txt").touch()
    config = folder / "about" / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ck.DamagedError, match=r"about/config\.json is not what was written"):
        run(data, tmp_path / "run", init_from=str(folder))
    run(data, tmp_path / "run", updates=1, init_from=str(folder), checkpoint={"verify": False})
