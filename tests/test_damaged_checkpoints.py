"""Whatever is done to a file of a checkpoint is said when it is read, or changes nothing."""

from __future__ import annotations

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_checkpoints import CONFIG, abstract, assert_same, make_state, mesh_of, record, save

from seqjax import checkpoints as ck
from seqjax.checkpoints import checksums
from seqjax.config import CheckpointConfig
from seqjax.training.checkpoints import Checkpoints, read_state


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    state = make_state(step=5)
    big = jnp.asarray(rng.normal(size=(64, 48)), jnp.float32)
    params = {**state.params, "big": big}
    state = state.replace(params=params)
    save(root, {4: (make_state(seed=1, step=4), None), 5: (state, None)})
    return root, state


def random_bytes(content, rng):
    at = rng.integers(0, max(1, len(content) - 50))
    return content[:at] + rng.bytes(min(len(content) - at, 2000)) + content[at + 2000:]


DAMAGES = {
    "missing": None,
    "empty": lambda content, rng: b"",
    "cut": lambda content, rng: content[: len(content) // 2],
    "zeros": lambda content, rng: bytes(len(content)),
    "overwritten": random_bytes,
    "one bit": lambda content, rng: bytes([content[0] ^ 4]) + content[1:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_file_of_a_checkpoint(saved, tmp_path, damage):
    """Files of orbax that nothing depends on may go; nothing that is read may be other."""
    root, state = saved
    shutil.copytree(root, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "5"
    target = abstract(state, mesh_of())
    rng = np.random.default_rng(1)
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    said = 0
    for file in files:
        content = file.read_bytes()
        change = DAMAGES[damage]
        if not content and damage != "missing":
            continue
        if change is None:
            file.unlink()
        else:
            file.write_bytes(change(content, rng))
        name = file.relative_to(folder).as_posix()
        for read, wanted in ((lambda: ck.load_for_inference(tmp_path / "run")[2], state.params),
                             (lambda: read_state(folder, target), state)):
            try:
                assert_same(read(), wanted)
                assert not name.startswith("about/") or "commit_success" in name, name
            except ck.DamagedError as error:
                said += 1
                assert "\n" not in str(error) and str(folder) in str(error)
                assert "beside it: 4" in str(error)
                if name.startswith("about/"):
                    assert name in str(error)
        file.write_bytes(content)
    assert said >= len(files) // 2  # the rest is not read
    assert_same(read_state(folder, target), state)


def test_the_array_is_named(saved, tmp_path):
    root, state = saved
    shutil.copytree(root, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "5"
    sums = folder / "about" / checksums.file_name(0)
    found = json.loads(sums.read_text())["crc32"]
    where, value = found["arrays"]["params"]["layers.fc1.kernel"][0]
    assert where == [[0, 3], [0, 8], [0, 16]]
    found["arrays"]["params"]["layers.fc1.kernel"][0] = [where, value ^ 1]
    own = checksums.zlib.crc32(json.dumps(found, sort_keys=True).encode())
    sums.write_text(json.dumps({"crc32": found, "own": own}))
    with pytest.raises(ck.DamagedError, match=r"layers\.fc1\.kernel in params/ is not what was"):
        ck.read_params(folder)
    assert_same(ck.read_params(folder, verify=False), jax.tree.map(np.asarray, state.params))


def test_optimizer_state_is_compared_when_resuming_only(saved, tmp_path):
    root, state = saved
    shutil.copytree(root, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "5"
    other = tmp_path / "other"
    save(other, {5: (state.replace(opt_state=make_state(seed=9).opt_state), None)})
    shutil.rmtree(folder / "state")
    shutil.copytree(other / "checkpoints" / "5" / "state", folder / "state")
    ck.read_params(folder)
    with pytest.raises(ck.CheckpointError):
        read_state(folder, abstract(state, mesh_of()))


def test_sharded_arrays_and_other_meshes(tmp_path):
    """Pieces are summed where they live; another mesh, or none, can look at all of them."""
    state = make_state(step=3)
    spread = mesh_of(data=2, fsdp=2, tensor=2)
    placed = jax.tree.map(lambda x, a: jax.device_put(x, a.sharding), state,
                          abstract(state, spread))
    save(tmp_path, {3: (placed, None)})
    folder = ck.find(tmp_path)
    pieces = json.loads((folder / "about" / checksums.file_name(0)).read_text())
    counts = [len(p) for p in pieces["crc32"]["arrays"]["params"].values()]
    assert max(counts) > 1, "nothing was split"
    for mesh in (spread, mesh_of(), mesh_of(fsdp=4)):
        assert_same(read_state(folder, abstract(state, mesh)), state)
    found = checksums.Checksums(folder, processes=1)
    wrong = jax.tree.map(lambda x: np.asarray(x).copy(), state.params)
    assert found.wrong_arrays("params", wrong) == []
    wrong["embedding"][-1, -1] += 1
    assert found.wrong_arrays("params", wrong) == ["embedding"]


def test_weights_that_are_not_finite(tmp_path):
    state = make_state(step=5)
    params = jax.tree.map(np.array, state.params)
    params["layers"]["fc1"]["kernel"][0, 0, :3] = [np.nan, np.inf, -np.inf]
    params["embedding"][0, 0] = np.nan
    save(tmp_path, {5: (state.replace(params=jax.tree.map(jnp.asarray, params)), None)})
    with pytest.raises(checksums.NotFiniteError,
                       match=r"embedding has 1 non-finite value, "
                             r"layers\.fc1\.kernel has 3 non-finite values"):
        ck.load_for_inference(tmp_path)
    assert np.isnan(ck.load_for_inference(tmp_path, verify=False)[2]["embedding"][0, 0])


def test_checkpoints_from_before_load(saved, tmp_path):
    root, state = saved
    shutil.copytree(root, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "5"
    (folder / "about" / checksums.file_name(0)).unlink()
    about = folder / "about" / "record.json"
    values = json.loads(about.read_text())
    with pytest.raises(ck.DamagedError, match=r"about/checksums\.0\.json is missing"):
        ck.load_for_inference(tmp_path / "run")
    del values["checksums"]
    about.write_text(json.dumps(values))
    config, assets, params = ck.load_for_inference(tmp_path / "run")
    assert config == CONFIG
    assert_same(params, jax.tree.map(np.asarray, state.params))
    (folder / "about" / "config.json").unlink()
    with pytest.raises(ck.DamagedError, match=r"about/config\.json is missing"):
        ck.load_for_inference(tmp_path / "run")


def test_one_set_aside_can_be_saved_again(tmp_path):
    save(tmp_path, {1: (make_state(step=1), None), 2: (make_state(step=2), None)})
    with Checkpoints(tmp_path, CheckpointConfig()) as store:
        bad = store.latest()
        assert bad is not None and bad.name == "2"
        aside = store.set_aside(bad)
        assert aside.name == "2.damaged" and aside.is_dir() and not bad.exists()
        latest = store.latest()
        assert latest is not None and latest.name == "1"
        store.save(make_state(seed=3, step=2), record(2), config=CONFIG, assets={})
        store.wait()
        again = store.set_aside(store.latest())
        assert again.name == "2.damaged2"
    assert sorted(f.name for f in (tmp_path / "checkpoints").iterdir()) == [
        "1", "2.damaged", "2.damaged2"]


def test_bytes_that_orbax_takes_for_numbers(tmp_path):
    """What zstd does not notice was loaded as weights before there were checksums."""
    state = make_state(step=5)
    big = jnp.asarray(np.random.default_rng(0).normal(size=(512, 512)), jnp.float32)
    save(tmp_path, {5: (state.replace(params={**state.params, "big": big}), None)})
    folder = ck.find(tmp_path)
    files = [f for f in (folder / "params").rglob("*") if f.is_file()]
    size = max(f.stat().st_size for f in files)
    files = [f for f in files if f.stat().st_size == size]
    whole, rng, silent = files[0].read_bytes(), np.random.default_rng(0), 0
    for at in range(40_000, size - 3000, size // 16):
        for file in files:
            file.write_bytes(whole[:at] + rng.bytes(2000) + whole[at + 2000:])
        with pytest.raises(ck.DamagedError, match="big"):
            ck.read_params(folder)
        try:
            silent += not np.array_equal(ck.read_params(folder, verify=False)["big"], big)
        except ck.DamagedError:
            continue
    assert silent
