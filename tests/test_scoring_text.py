"""Scores of text: fairseq's recorded lines, the `score` command, mistakes."""

from __future__ import annotations

import json

import pytest

from seqjax import score
from seqjax.config import ConfigError
from seqjax.tasks import metrics


@pytest.fixture(scope="module")
def recorded(goldens):
    return json.loads((goldens / "bleu" / "recorded.json").read_text())


@pytest.mark.parametrize("name, metric", [
    ("generate.txt", metrics.bleu), ("generate_sacrebleu_align.txt", metrics.sacrebleu),
])
def test_lines_are_fairseqs(recorded, name, metric):
    case = recorded[name]
    assert case["line"].endswith(": " + metric(case["hypotheses"], case["references"]).text)


def test_token_bleu_by_hand():
    counts = metrics.TokenBleu(order=2)
    counts.add([5, 6, 7], [5, 6, 8, None])
    counts.add([None], [None])
    assert counts.matches == [2, 1] and counts.counts == [4, 2]
    result = counts.result()
    assert result.text == "BLEU2 = 38.94, 50.0/50.0 (BP=0.779, ratio=0.800, syslen=4, reflen=5)"
    assert metrics.bleu(["a b"], ["c d"]).score == 0.0


@pytest.fixture
def files(tmp_path, recorded):
    case = recorded["generate.txt"]
    hyp, ref = tmp_path / "hyp", tmp_path / "ref"
    hyp.write_text("\n".join(case["hypotheses"]) + "\n")
    ref.write_text("\n".join(case["references"]) + "\n")
    return ["--sys", str(hyp), "--ref", str(ref)]


def test_command(files, recorded, capsys):
    score.main(files)
    assert recorded["generate.txt"]["line"].endswith(capsys.readouterr().out.strip())
    score.main([*files, "--metric", "sacrebleu", "chrf", "ter", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["sacrebleu"]["score"] == pytest.approx(5.38, abs=0.01)
    assert "version" in found["chrf"]["signature"] and found["ter"]["score"] > 0
    score.main([*files, "--sentence-bleu", "--sacrebleu"])
    assert len(capsys.readouterr().out.splitlines()) == 40


def test_mistakes(files, tmp_path, capsys):
    short = tmp_path / "short"
    short.write_text("one line\n")
    with pytest.raises(ConfigError, match="40 lines, .*short 1"):
        score.main([*files[:2], "--ref", str(short)])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        score.main([*files[:2], "--ref", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit):
        score.main([*files, "--metric", "bluer"])
    assert "bluer" in capsys.readouterr().err
