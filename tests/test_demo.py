"""What `make demo` promises (launch/demo.sh)."""

from __future__ import annotations

import json
import subprocess
import sys

from seqjax import config


def test_updates_decide_and_the_loss_chooses(repository):
    """On a slow machine the demo trains as long as on a quick one, to the same BLEU; and BLEU
    of a few short sentences is too noisy to choose a checkpoint by."""
    raw = config.load_file(str(repository / "configs" / "quickstart.py"))
    assert raw["train"]["max_update"] > 0 and "stop_time_hours" not in raw["train"]
    assert raw["valid"]["metric"] == "loss" and not raw["valid"].get("patience")


def run(repository, script, *arguments):
    return subprocess.run([sys.executable, repository / "launch" / script, *map(str, arguments)],
                          cwd=repository, capture_output=True, text=True)


def test_a_floor_that_fails_loudly(repository, tmp_path):
    (tmp_path / "ref").write_text("der Ventilator ist jetzt aus\n" * 5)
    (tmp_path / "bad").write_text("ein Licht und mehr\n" * 5)
    good = run(repository, "at_least.py", 25, tmp_path / "ref", tmp_path / "ref")
    assert good.returncode == 0 and "BLEU 100.0 is above 25" in good.stdout
    bad = run(repository, "at_least.py", 25, tmp_path / "bad", tmp_path / "ref")
    assert bad.returncode == 1 and "is below 25" in bad.stderr and "Traceback" not in bad.stderr
    script = (repository / "launch" / "demo.sh").read_text()
    assert "set -euo pipefail" in script and "launch/at_least.py" in script


def test_what_is_decoded_is_said(repository, tmp_path):
    for step, loss in ((10, 3.5), (20, 3.4), (30, 3.6)):
        about = tmp_path / "checkpoints" / str(step) / "about"
        about.mkdir(parents=True)
        (about / "record.json").write_text(json.dumps({
            "step": step, "data": {}, "metric_name": "loss", "metric": loss,
            "history": [{}] * (step // 10)}))
    done = run(repository, "which_checkpoint.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Decoding with update 20 of 30" in done.stdout
    assert "loss of 3.4 is the best of 3 validations" in done.stdout
