"""`python -m seqjax.train`: what it prints, and a clear error for input that cannot work."""

from __future__ import annotations

import json
import os
import stat

import pytest
from tiny_run import raw_config, resolve, write_data

from seqjax import checkpoints, cli, train
from seqjax.data.indexed import IndexedWriter
from seqjax.training import train_loop


def tiny(data):
    return raw_config(data, batching={"max_tokens": 256})  # 8 rows, for 8 devices


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


@pytest.fixture
def start(data, tmp_path, capsys):
    """Runs the verb on a tiny configuration; returns (exit status, stderr)."""
    file = tmp_path / "tiny.py"
    file.write_text(f"def get_config(size='8'):\n    raw = {tiny(data)!r}\n"
                    "    raw['model']['encoder_embed_dim'] = int(size)\n    return raw\n")

    def run(*arguments, config=str(file), workdir=str(tmp_path / "run")):
        given = ["--config", config, "--workdir", workdir, *arguments]
        with pytest.raises(SystemExit) as e:
            cli.run(lambda: train.main(given))
        return e.value.code, capsys.readouterr().err

    return run


WRONG = [
    ("train.lrr=1", r"error: config.train.lrr: unknown key. Did you mean 'lr'?"),
    ("trian.lr=1", "error: config.trian: unknown key. Did you mean 'train'?"),
    ("model.encoder_layerz=1", "unknown key. Did you mean 'encoder_layers'?"),
    ("train.max_update=many", "error: config.train.max_update: expected int, got 'many'"),
    ("train.sentence_avg=2", "expected bool"),
    ("optimizer.name=adm", "config.optimizer.name: 'adm' is not one of"),
    ("model.arch=transfomer_iwslt_de_en", "Did you mean 'transformer_iwslt_de_en'?"),
    ("task.data=nowhere", "error: config.task.data: nowhere: no such folder"),
    ("task.data=", "name the folder"),
    ("task.train_subset=trian", "trian"),
    ("valid.subset=vlaid", "vlaid"),
    ("mesh.data=3", "needs 3 devices, but there are 8 cpu devices"),
    ("schedule.warmup_updates=0", "needs at least 1 update of it"),
    ("valid.metric=bleu", "'bleu' needs config.valid.decode=True"),
    ("valid.metric=blue", "config.valid.metric: 'blue' is not one of loss, nll_loss, ppl"),
    ("init_from=nowhere", "nowhere: no such file or folder"),
    ("resume_from=nowhere", "nowhere: no such file or folder"),
    ("batching.max_tokens=8", "max_tokens"),
    ("train.update_freq=0", "update_freq"),
]


@pytest.mark.parametrize(("override", "says"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_values(start, override, says):
    status, text = start(f"--config.{override}")
    last = text.strip().splitlines()[-1]
    assert status == 2 and last.startswith("error: ") and says in last, text
    assert "Traceback" not in text


def test_wrong_files(start, tmp_path):
    status, text = start(config=str(tmp_path / "none.py"))
    assert status == 2 and "none.py: no such file" in text
    (tmp_path / "empty.py").write_text("")
    status, text = start(config=str(tmp_path / "empty.py"))
    assert status == 2 and "defines no get_config()" in text
    (tmp_path / "file").write_text("")
    status, text = start(workdir=str(tmp_path / "file"))
    assert status == 2 and "file: cannot write there" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_workdir(start, tmp_path):
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut").chmod(stat.S_IRUSR | stat.S_IXUSR)
    status, text = start(workdir=str(tmp_path / "shut" / "run"))
    assert status == 2 and "cannot write there (Permission denied)" in text


def test_truncated_data_is_noticed_first(start, tmp_path):
    folder = write_data(tmp_path / "broken")
    file = folder / "train.aa-bb.bb.bin"
    file.write_bytes(file.read_bytes()[:-10])
    status, text = start(f"--config.task.data={folder}")
    assert status == 2 and "train.aa-bb.bb.bin" in text and "bytes" in text


def test_sentence_over_the_limit(start, tmp_path):
    import numpy as np

    folder = write_data(tmp_path / "long")
    for lang in ("aa", "bb"):
        with IndexedWriter(folder / f"valid.aa-bb.{lang}", dtype=np.dtype(np.uint16)) as out:
            out.append(np.array([5, 2]))
            out.append(np.array([5] * 60 + [2]))
    status, text = start(f"--config.task.data={folder}")
    assert status == 2
    assert "split 'valid': sentence 1 has 61 source tokens" in text
    assert "skip_invalid_size_inputs_valid_test" in text


def test_value_missing_on_the_command_line(start):
    status, text = start("--config.train.lr")
    assert status == 2 and "give it a value" in text


def test_overrides_and_argument_of_the_file(start, data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(train_loop, "train", lambda config, **more: seen.append((config, more)))
    status, _ = start("--config.train.lr=0.5,0.25", "--config.mesh.data", "4",
                      config=str(tmp_path / "tiny.py") + ":16")
    (config, more), = seen
    assert status == 0 and config.train.lr == (0.5, 0.25) and config.mesh.data == 4
    assert config.model.encoder_embed_dim == 16
    assert more["workdir"] == str(tmp_path / "run")


def test_a_checkpoint_of_another_model(data, tmp_path, monkeypatch, start):
    saved = resolve(tiny(data))
    folder = tmp_path / "run" / "checkpoints" / "3" / "about"
    folder.mkdir(parents=True)
    from seqjax.config import to_plain

    (folder / "config.json").write_text(json.dumps(to_plain(saved)))
    (folder / "record.json").write_text(json.dumps({"step": 3, "data": {}}))
    assert checkpoints.find(tmp_path / "run").name == "3"
    status, text = start("--config.model.decoder_layers=3", "--config.train.lr=9")
    assert status == 2
    assert "is a checkpoint of another configuration" in text
    assert "model.decoder_layers: 1 there, 3 here" in text and "train.lr" not in text


def test_help_lists_every_key(capsys):
    train.main(["--help-config"])
    text = capsys.readouterr().out
    for key in ("train.lr", "checkpoint.keep_best", "mesh.fsdp", "model.encoder_embed_dim",
                "loss.label_smoothing", "task.data", "log.compilation_cache"):
        assert f"  {key} = " in text, key
    assert "Stop after this many updates" in text
