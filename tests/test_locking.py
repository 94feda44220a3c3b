"""Two processes in one place: the second is told of the first; the dead hold nothing."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from tiny_run import raw_config, resolve, train_two_updates, write_data

from seqjax import average, cli, convert, generate, locking, preprocess
from seqjax.training import train_loop

HOLD = """
import sys, time
from seqjax import locking
with locking.hold(sys.argv[1], what="it"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(one_device_env):
    """Starts a process that holds a lock; it is killed at the end."""
    started = []

    def start(path):
        child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], env=one_device_env,
                                 stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train_two_updates(data, tmp_path_factory.mktemp("runs") / "run")


def test_the_second_is_told_of_the_first(tmp_path, holder):
    path = tmp_path / "train.lock"
    child = holder(path)
    about = rf"in use by process {child.pid} on {socket.gethostname()} \(since 2.*kill {child.pid}"
    with pytest.raises(locking.LockedError, match=about), locking.hold(path, what="run"):
        pass


def test_a_killed_process_holds_nothing(tmp_path, holder):
    path = tmp_path / "train.lock"
    child = holder(path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert path.exists()
    with locking.hold(path, what="run") as lock:
        assert json.loads(path.read_text())["pid"] == os.getpid()
        lock.check()
    assert not path.exists()


def test_within_one_process_too(tmp_path):
    path = tmp_path / "lock"
    with locking.hold(path, what="run"):
        with pytest.raises(locking.LockedError, match=f"process {os.getpid()}"):
            with locking.hold(path, what="run"):
                pass
    with locking.hold(path, what="run"):
        pass


def test_many_at_once_take_turns(tmp_path):
    """The file is removed and made again all the time; never do two hold it."""
    path, inside, most, errors = tmp_path / "lock", [], [], []

    def work():
        for _ in range(30):
            try:
                with locking.hold(path, what="run"):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
            except locking.LockedError:
                time.sleep(0.001)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors and most and max(most) == 1


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(locking, "BEAT", 0.2)
    monkeypatch.setattr(locking, "SILENCE", 1.5)


def elsewhere(path: pathlib.Path) -> None:
    path.write_text(json.dumps({"host": "far", "pid": 7, "since": "then", "machine": "other",
                                "token": "x"}))


def test_a_silent_holder_on_another_machine_is_dead(tmp_path, quick):
    path, said = tmp_path / "lock", []
    elsewhere(path)
    with locking.hold(path, what="run", say=said.append):
        pass
    assert "held by process 7 on far" in said[0] and "sign of life" in said[0]
    assert "taken over from process 7 on far" in said[1]
    elsewhere(path)
    os.utime(path, (time.time() - 100, time.time() - 100))
    said.clear()
    with locking.hold(path, what="run", say=said.append):
        pass
    assert len(said) == 1 and "taken over" in said[0]  # no need to wait


def test_a_living_holder_on_another_machine_is_heard(tmp_path, quick):
    path = tmp_path / "lock"
    elsewhere(path)
    alive = threading.Timer(0.5, os.utime, [path])
    alive.start()
    with pytest.raises(locking.LockedError, match="process 7 on far") as error:
        with locking.hold(path, what="run", say=lambda line: None):
            pass
    assert "kill" not in str(error.value)  # there is no such process here


@pytest.mark.parametrize("missing", ["fcntl", "support"])
def test_without_the_system_s_lock(tmp_path, quick, monkeypatch, missing):
    path = tmp_path / "lock"
    if missing == "fcntl":
        monkeypatch.setattr(locking, "fcntl", None)
    else:
        def flock(file, how):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(locking.fcntl, "flock", flock)
    with locking.hold(path, what="run"):
        with pytest.raises(locking.LockedError, match=f"process {os.getpid()}"):
            with locking.hold(path, what="run", say=lambda line: None):
                pass
    assert not path.exists()


def test_a_lock_that_was_taken_over_is_noticed(tmp_path, quick):
    path = tmp_path / "lock"
    with locking.hold(path, what="run") as lock:
        elsewhere(path)
        time.sleep(0.6)
        with pytest.raises(locking.LockedError, match="taken over by process 7 on far"):
            lock.check()
    assert path.exists()  # it is another's now


def test_train(data, tmp_path, holder, monkeypatch):
    """Refused before anything is computed or written."""
    (tmp_path / "run").mkdir()
    child = holder(tmp_path / "run" / "train.lock")
    monkeypatch.setattr(train_loop, "_train", lambda *a, **k: pytest.fail("it computes"))
    with pytest.raises(locking.LockedError, match=f"run: in use by process {child.pid}"):
        train_loop.train(resolve(raw_config(data)), workdir=str(tmp_path / "run"))
    assert {f.name for f in (tmp_path / "run").iterdir()} == {"train.lock"}


def refused(main, arguments, capsys) -> str:
    with pytest.raises(SystemExit) as status:
        cli.run(lambda: main(arguments))
    assert status.value.code == 2
    return capsys.readouterr().err


def test_two_jobs_on_one_output(trained, tmp_path, holder, capsys, monkeypatch):
    (tmp_path / "in").write_text("aa1 aa2\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "here")
    child = holder(tmp_path / "here" / "out.lock")
    monkeypatch.chdir(tmp_path / "here")
    for name in ("out", "../alias/out", str(tmp_path / "here" / "out")):
        text = refused(generate.main, ["--checkpoint", str(trained), "--input", "../in",
                                       "--output", name], capsys)
        assert f"--output {name}: in use by process {child.pid}" in text
    child.kill()
    child.wait()
    generate.main(["--checkpoint", str(trained), "--input", "../in", "--output", "out"])
    assert {f.name for f in (tmp_path / "here").iterdir()} == {"out"}
    # The model may be in use by many, and its folder by a training run.
    holder(trained / "train.lock")
    generate.main(["--checkpoint", str(trained), "--input", "../in", "--output", "out2"])


def test_other_verbs_that_write(trained, tmp_path, holder, capsys):
    holder(tmp_path / "out.lock")
    text = refused(average.main, ["--inputs", str(trained), "--num-update-checkpoints", "1",
                                  "--output", str(tmp_path / "out")], capsys)
    assert "in use by" in text
    holder(tmp_path / "model.pt.lock")
    text = refused(convert.main, [str(trained), str(tmp_path / "model.pt")], capsys)
    assert "in use by" in text
    (tmp_path / "train.aa").write_text("a b\n")
    (tmp_path / "data").mkdir()
    holder(tmp_path / "data" / "preprocess.lock")
    arguments = ["--only-source", "--source-lang", "aa", "--trainpref", str(tmp_path / "train"),
                 "--destdir", str(tmp_path / "data")]
    assert preprocess.main(arguments) == 2
    assert "in use by" in capsys.readouterr().err


def test_what_is_no_file_is_not_replaced(trained, tmp_path, capsys):
    (tmp_path / "in").write_text("aa1 aa2\n")
    os.mkfifo(tmp_path / "pipe")
    text = refused(generate.main, ["--checkpoint", str(trained), "--input", str(tmp_path / "in"),
                                   "--output", str(tmp_path / "pipe")], capsys)
    assert "--output -" in text
