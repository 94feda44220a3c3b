"""Ctrl-C and SIGTERM of real processes: what they leave behind and what a shell sees."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from tiny_run import raw_config, train_two_updates, write_data

from seqjax import checkpoints as ck

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}

PATCHED = """
import hashlib, sys, time
from seqjax import cli, generate, interactive, preprocess, train
from seqjax.training import checkpoints, validation

def stuck(*args, **options):
    print("STUCK", file=sys.stderr, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)  # minutes in C, as a compilation

def slow(function):
    def wrapped(*args, **options):
        print("SLOW", file=sys.stderr, flush=True)
        time.sleep(2)
        return function(*args, **options)
    return wrapped

PATCH
verb = sys.argv.pop(1)
cli.run({"train": train, "generate": generate, "preprocess": preprocess}[verb].main)
"""


class Process:
    """A child, whose lines are awaited."""

    def __init__(self, words, env, cwd):
        self.child = subprocess.Popen([sys.executable, *words], env=env, cwd=cwd, text=True,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.text = ""

    def wait_for(self, pattern):
        assert self.child.stderr is not None
        while not re.search(pattern, self.text):
            line = self.child.stderr.readline()
            assert line, f"ended ({self.child.wait()}) before {pattern!r}:\n{self.text}"
            self.text += line

    def send(self, number, *, within=60.0):
        """Sends the signal; returns the exit status."""
        began = time.monotonic()
        self.child.send_signal(number)
        return self.end(within - (time.monotonic() - began))

    def end(self, within=60.0):
        _, rest = self.child.communicate(timeout=within)
        self.text += rest
        assert "Traceback" not in self.text, self.text
        return self.child.returncode


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus") / "data-bin")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train_two_updates(data, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def launch(data, tmp_path, one_device_env):
    """Starts a verb; `patch` is code in front of it."""
    raw = raw_config(data, train={"max_update": 10**6}, valid={"every_updates": 10**6},
                     log={"interval_updates": 20})
    (tmp_path / "tiny.py").write_text(f"def get_config():\n    return {raw!r}\n")
    children = []

    def start(verb, *words, patch=None):
        code = ["-m", f"seqjax.{verb}"] if patch is None else [
            "-c", PATCHED.replace("PATCH", patch), verb]
        process = Process([*code, *words], one_device_env, tmp_path)
        children.append(process.child)
        return process

    yield start
    for child in children:
        child.kill()
        child.wait()


ARGUMENTS = ["--config", "tiny.py", "--workdir", "run a"]


@pytest.mark.parametrize("number", STATUS)
def test_between_updates(launch, tmp_path, number):
    process = launch("train", *ARGUMENTS)
    process.wait_for(r"num_updates=20")
    assert process.send(number) == STATUS[number]
    step = ck.read_record(ck.find(tmp_path / "run a", which="last")).step
    assert step >= 20
    assert f"stopped at update {step}: {number.name} received" in process.text
    last = process.text.rstrip().splitlines()[-1]
    assert last.endswith(f"to go on from update {step}: python -m seqjax.train --config tiny.py "
                         "--workdir 'run a'")
    assert not (tmp_path / "run a" / "train.lock").exists()
    # What it says is done, and goes on.
    words = shlex.split(last.partition(": ")[2])[1:]
    again = launch("train", *words[2:], f"--config.train.max_update={step + 1}")
    assert again.end() == 0 and f"at update {step}" in again.text


def test_a_shell_goes_no_further(launch, tmp_path, one_device_env):
    command = (f"{shlex.quote(sys.executable)} -m seqjax.train --config tiny.py --workdir run "
               "&& echo TRANSLATING >&2")
    shell = subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=one_device_env, text=True,
                             stderr=subprocess.PIPE)
    text = ""
    while "num_updates=20" not in text:
        assert shell.stderr is not None
        text += shell.stderr.readline()
    os.kill(json.loads((tmp_path / "run" / "train.lock").read_text())["pid"], signal.SIGTERM)
    _, rest = shell.communicate(timeout=60)
    assert shell.returncode == 143 and "TRANSLATING" not in text + rest


@pytest.mark.parametrize(("number", "said"), [
    (signal.SIGINT, "starting afresh"), (signal.SIGTERM, "compiling")])
def test_before_the_first_update(launch, tmp_path, number, said):
    process = launch("train", *ARGUMENTS)
    process.wait_for(said)
    assert process.send(number) == STATUS[number]
    assert ("nothing is lost. To go on: python -m seqjax.train --config tiny.py --workdir 'run a'"
            in process.text or "stopped at update" in process.text)
    assert "ended by" in (tmp_path / "run a" / "train.log").read_text() or (
        "stopped at update" in process.text)


def test_while_xla_compiles(launch):
    """Nobody waits for the compilation, whose minutes cannot be cut short."""
    process = launch("train", *ARGUMENTS, patch="from seqjax.training import compilation\n"
                     "import jax\njax.stages.Lowered.compile = stuck")
    process.wait_for("STUCK")
    assert process.send(signal.SIGTERM, within=20) == 143
    assert "nothing is lost" in process.text


def test_during_validation(launch, tmp_path):
    """The state is saved at once; the validation is left off wherever it is."""
    process = launch("train", *ARGUMENTS, "--config.valid.every_updates=7",
                     patch="validation.Validator.__call__ = stuck")
    process.wait_for("STUCK")
    assert process.send(signal.SIGTERM, within=30) == 143
    assert "the validation is left off" in process.text
    record = ck.read_record(ck.find(tmp_path / "run a", which="last"))
    assert record.step == 7 and record.metric is None
    assert "to go on from update 7" in process.text


def test_while_saving(launch, tmp_path):
    process = launch("train", *ARGUMENTS, "--config.checkpoint.every_updates=5",
                     patch="checkpoints.Checkpoints.save = slow(checkpoints.Checkpoints.save)")
    process.wait_for("SLOW")
    assert process.send(signal.SIGINT) == 130
    step = ck.read_record(ck.find(tmp_path / "run a", which="last")).step
    assert step in (5, 6) and f"to go on from update {step}" in process.text


def test_a_second_ctrl_c_ends_at_once(launch, tmp_path):
    process = launch("train", *ARGUMENTS, "--config.checkpoint.every_updates=5",
                     patch="checkpoints.Checkpoints.save = stuck")
    process.wait_for("STUCK")
    process.child.send_signal(signal.SIGINT)
    process.wait_for(r"SIGINT: ending in order")
    assert process.send(signal.SIGINT, within=10) == 130
    with pytest.raises(ck.CheckpointError):
        ck.find(tmp_path / "run a")


@pytest.mark.parametrize("number", STATUS)
def test_generate_keeps_what_is_done(launch, trained, tmp_path, number):
    (tmp_path / "in").write_text("aa1 aa2\n" * 5)
    words = ["--checkpoint", str(trained), "--input", "in", "--output", "my out"]
    process = launch("generate", *words, "--batch-size", "1", patch="""
from seqjax.generation import journal
add, count = journal.Journal.add, 0
def slowly(self, *args):
    global count
    add(self, *args)
    count += 1
    if count == 2:
        stuck()
journal.Journal.add = slowly
""")
    process.wait_for("STUCK")
    assert process.send(number, within=30) == STATUS[number]
    assert "finished sentences are kept in my out.part; to go on: python -m seqjax.generate" in (
        process.text) and "'my out'" in process.text
    assert not (tmp_path / "my out").exists()
    again = launch("generate", *words, "--batch-size", "1")
    assert again.end() == 0 and "2 of 5 sentences are done already" in again.text
    assert len((tmp_path / "my out").read_text().splitlines()) == 5
    assert {"my out.part", "my out.lock"}.isdisjoint(os.listdir(tmp_path))


@pytest.mark.parametrize("number", STATUS)
def test_preprocess_leaves_nothing(launch, tmp_path, number):
    (tmp_path / "train.aa").write_text("a b c\n" * 1000)
    process = launch("preprocess", "--only-source", "--source-lang", "aa", "--trainpref", "train",
                     "--destdir", "made", patch="from seqjax.data import prepare\n"
                     "prepare.Job.vocabularies = stuck")
    process.wait_for("STUCK")
    assert process.send(number, within=30) == STATUS[number]
    assert "nothing was written" in process.text
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("verb", ["interactive", "evaluate", "average", "convert", "score"])
def test_every_verb(verb, number, trained, data, tmp_path, one_device_env):
    """Before it has read anything: imports take their time."""
    words = {
        "interactive": ["--checkpoint", str(trained)],
        "evaluate": ["--checkpoint", str(trained), "--subset", "valid", "--data", str(data)],
        "average": ["--inputs", str(trained), "--num-update-checkpoints", "1", "--output", "avg"],
        "convert": [str(trained), "model.pt"],
        "score": ["--sys", "-", "--ref", "ref"],
    }[verb]
    (tmp_path / "ref").write_text("a\n")
    code = (f"import os, sys, threading\nfrom seqjax import cli, {verb}\n"
            f"def main():\n    arguments = os.getpid(), {int(number)}\n"
            "    threading.Timer(0.3, os.kill, arguments).start()\n"
            f"    return {verb}.main()\n"
            "cli.run(main)")
    child = subprocess.Popen([sys.executable, "-c", code, *words], env=one_device_env,
                             cwd=tmp_path, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    text = _wait(child)
    assert child.returncode == STATUS[number], text
    assert "Traceback" not in text


def _wait(child) -> str:
    """stderr, with stdin left open: a pipe that nobody writes to."""
    assert child.stderr is not None
    text = child.stderr.read()
    child.wait(timeout=60)
    for pipe in (child.stdin, child.stdout, child.stderr):
        pipe.close()
    return text


def test_the_handlers_are_put_back():
    from seqjax import cli

    before = [signal.getsignal(n) for n in STATUS]
    with pytest.raises(SystemExit) as status:
        cli.run(lambda: 3)
    assert status.value.code == 3
    assert [signal.getsignal(n) for n in STATUS] == before
