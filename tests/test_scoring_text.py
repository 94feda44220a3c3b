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


IDS = metrics.SpecialTokens(pad=1, eos=2, unk=3)


def test_token_bleu_by_hand():
    counts = metrics.TokenBleu(order=2, special=IDS)
    counts.add([5, 6, 7, 2], [5, 6, 8, 3, 2])
    counts.add([3, 2], [3, 2])
    assert counts.matches == [2, 1] and counts.counts == [4, 2]
    result = counts.result()
    assert result.text == "BLEU2 = 38.94, 50.0/50.0 (BP=0.779, ratio=0.800, syslen=4, reflen=5)"
    assert metrics.bleu(["a b"], ["c d"]).score == 0.0


@pytest.mark.parametrize("case", range(12))
def test_empty_lines_and_special_tokens_count_as_in_fairseq(goldens, case):
    """scripts/record_bleu.py: fairseq-score on the same files, and its Scorer on sentences."""
    recorded = json.loads((goldens / "bleu" / "lines.json").read_text())
    assert len(recorded) == 12
    one = recorded[case]
    found = metrics.bleu(one["sys"], one["ref"], order=one["order"], lowercase=one["ignore_case"])
    assert found.text == one["line"]
    for sys, ref, line in zip(one["sys"], one["ref"], one["sentences"], strict=True):
        assert metrics.bleu([sys], [ref], order=one["order"], lowercase=one["ignore_case"],
                            smooth=True).text == line


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


@pytest.mark.parametrize("more, message", [
    (["--metric", "chrf", "--order", "2"], "--order is of --metric bleu"),
    (["--tokenize", "zh"], "--tokenize is of --metric sacrebleu"),
    (["--sacrebleu", "--metric", "ter"], "--sacrebleu is the same as"),
    (["--sentence-bleu", "--json"], "leave out --json"),
    (["--sentence-bleu", "--metric", "bleu", "ter"], "keep one of bleu ter"),
    (["--order", "0"], "--order 0"),
])
def test_flags_that_would_be_ignored_are_refused(files, more, message):
    with pytest.raises(ConfigError, match=message):
        score.main([*files, *more])


# Recorded with fairseq's EvaluationTokenizer: tokenizer, lower case, without punctuation -> errors
# and words.
HEARD = ["Well, it's \"good\" -- really.", "One (two) three!", "¿Qué? 3.5%", "A . b"]
SAID = ["well it's good, really", "One two: three four", "Que, 3.5 %", "a b"]
WORD_ERRORS = [("none", False, False, 12, 13), ("none", False, True, 9, 12),
               ("none", True, False, 11, 13), ("none", True, True, 8, 12),
               ("13a", False, False, 13, 16), ("13a", False, True, 4, 12),
               ("13a", True, False, 11, 16), ("13a", True, True, 2, 12)]


def test_word_errors_of_words_as_fairseq_makes_them(tmp_path, capsys):
    for tokenizer, lower, bare, errors, words in WORD_ERRORS:
        found = metrics.wer(HEARD, SAID, lowercase=lower, tokenize=tokenizer, punctuation=not bare)
        assert found.text == f"WER: {100 * errors / words:.2f} ({errors} errors, {words} words)"
    for name, lines in (("sys", HEARD), ("ref", SAID)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    files = ["--sys", str(tmp_path / "sys"), "--ref", str(tmp_path / "ref")]
    score.main([*files, "--metric", "wer", "--tokenize", "13a", "--ignore-case",
                "--no-punctuation"])
    assert capsys.readouterr().out == "WER: 16.67 (2 errors, 12 words)\n"
    with pytest.raises(ConfigError, match="--no-punctuation is of --metric wer, and cer takes"):
        score.main([*files, "--metric", "cer", "--no-punctuation"])
