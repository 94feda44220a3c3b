"""`evaluate` for translation: fairseq-validate's numbers. Language models: test_language_*."""

from __future__ import annotations

import json

import pytest
from user_path import FOLDER, MODEL, data_folder

from seqjax import evaluate
from seqjax.config import ConfigError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_folder(tmp_path_factory.mktemp("data"))


def test_what_fairseq_validate_said(data, capsys):
    recorded = json.loads((FOLDER / "validate.json").read_text())
    command = ["--checkpoint", str(MODEL), "--data", str(data), "--valid-subset", "valid"]
    evaluate.main(command)
    line = capsys.readouterr().out.strip()
    assert line == " | ".join(["valid", *(
        f"{k} {float(recorded['valid_' + k]):.{2 if k == 'ppl' else 3}f}"
        for k in ("loss", "nll_loss", "ppl", "accuracy"))])
    evaluate.main([*command, "--json", "--max-tokens", "300", "--batch-size", "7"])
    found = json.loads(capsys.readouterr().out)
    assert found["tokens"] == int(recorded["valid_total"])
    assert found["loss"] == pytest.approx(float(recorded["valid_loss"]), abs=6e-4)


@pytest.mark.parametrize(("more", "message"), [
    (["--context-window", "4"], "--context-window: for language models"),
    (["--subset", "nosuch"], r"nosuch\.de-en\.de\.bin: no such store"),
])
def test_mistakes(data, more, message):
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        evaluate.main(["--checkpoint", str(MODEL), "--data", str(data), *more])


def test_an_ensemble_has_no_loss(data):
    with pytest.raises(ConfigError, match="loss of an ensemble"):
        evaluate.main(["--checkpoint", f"{MODEL}:{MODEL}", "--data", str(data)])
