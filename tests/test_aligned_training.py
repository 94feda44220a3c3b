"""Word alignments from the data folder to the log and to A- lines, as fairseq has them
(scripts/record_aligned_training.py)."""

from __future__ import annotations

import json

import pytest
from resave import resave_fairseq
from test_hub_fairseq import check_lines, printed
from user_path import GOLDENS, aligned_data_folder

from seqjax import generate, hub
from seqjax.interop.fairseq import config as fairseq_config
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.interop.fairseq.checkpoint import load_fairseq
from seqjax.interop.torch.files import read_pt
from seqjax.training import held_out, train_loop

FOLDER = GOLDENS / "aligned_training"
MODEL = FOLDER / "model.pt"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return aligned_data_folder(tmp_path_factory.mktemp("aligned"))


@pytest.mark.filterwarnings("ignore:the alignment of sentence")
def test_going_on_logs_what_fairseq_logged(data, tmp_path):
    recipe = fairseq_recipe.from_fairseq(fairseq_config.from_checkpoint(read_pt(MODEL)))
    assert recipe.unsupported == ()
    raw = recipe.raw
    assert raw["task"]["load_alignments"] and raw["loss"]["alignment_lambda"] == 0.5
    raw["task"]["data"], raw["train"]["max_update"] = str(data), 56
    raw["batching"]["num_shapes"] = 1  # one program to compile; padding changes no number
    raw["log"] = {"interval_updates": 1, "tensorboard": False, "compilation_cache": None}
    config = hub.resolve({**raw, "resume_from": str(MODEL)})
    start = fairseq_start.start_from(config)
    assert start.step == 50
    train_loop.train(config, workdir=str(tmp_path / "run"), start=start)
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    found = {int(x["num_updates"]): x for x in lines if x["group"] == "train_inner"}
    recorded = json.loads((FOLDER / "log.json").read_text())["updates"]
    assert [int(x["num_updates"]) for x in recorded] == list(range(51, 57))
    for theirs in recorded:
        ours = found[int(theirs["num_updates"])]
        for key in ("loss", "nll_loss", "alignment_loss", "gnorm"):
            assert ours[key] == pytest.approx(float(theirs[key]), abs=1.1e-3), key


@pytest.mark.filterwarnings("ignore:the alignment of sentence")
def test_the_loss_of_a_split_is_fairseq_validate_s(data):
    model = hub.load(MODEL, data=data)
    found = held_out.held_out(
        model.task, model.models[0], model.params[0], "valid", loss=model.config.loss,
        max_tokens=700)
    recorded = json.loads((FOLDER / "validate.json").read_text())
    for key in ("loss", "nll_loss", "alignment_loss"):
        assert found.values[key] == pytest.approx(float(recorded[f"valid_{key}"]), abs=1.1e-3), key
    assert found.tokens == float(recorded["valid_wpb"])


def test_what_fairseq_generate_printed(data):
    header = (FOLDER / "generate_align.txt").read_text().splitlines()[0]
    options = [word for word in header.removeprefix("# ").split() if word != "--cpu"]
    found = printed(generate.main, ["--path", str(MODEL), "--data", str(data), "--format",
                                    "fairseq", *options])
    check_lines(FOLDER / "generate_align.txt", found)


def test_what_is_written_is_what_was_read(tmp_path):
    checkpoint = load_fairseq(MODEL)
    resave_fairseq(tmp_path / "new.pt", checkpoint)
    again = load_fairseq(tmp_path / "new.pt")
    assert again.config == checkpoint.config and again.config.full_context_alignment
    old, new = (read_pt(path)["model"] for path in (MODEL, tmp_path / "new.pt"))
    assert sorted(old) == sorted(new)
    assert all(new[name].tobytes() == value.tobytes() for name, value in old.items())
