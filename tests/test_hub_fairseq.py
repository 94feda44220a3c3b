"""A fairseq `.pt` wherever a checkpoint is taken: loading, decoding, going on training."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
from user_path import FOLDER, GOLDENS, MODEL, data_folder

import seqjax
from seqjax import convert, generate, hub, interactive
from seqjax.config import ConfigError
from seqjax.data.introsort import falling_order
from seqjax.interop.fairseq import config as fairseq_config
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq import start as fairseq_start
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.writer import write_pt
from seqjax.training import train_loop

TEXT = "Und er sprach"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture
def home(tmp_path, data):
    """A folder as fairseq's published models are: the file, dictionaries, BPE codes."""
    shutil.copy(MODEL, tmp_path / "model.pt")
    for lang in ("de", "en"):
        shutil.copy(data / f"dict.{lang}.txt", tmp_path)
    return tmp_path


# ---- loading ----


def test_dictionaries_beside_the_file(home, data):
    here, there = seqjax.load(home / "model.pt"), seqjax.load(MODEL, data=data)
    assert here.task.source_vocab == there.task.source_vocab
    assert here.task.source_lang == "de" and here.task.source_tokenizer is None


def test_codes_beside_the_file_make_a_tokenizer(home):
    shutil.copy(GOLDENS / "preprocess" / "bpecodes", home / "bpecodes")
    plain = seqjax.load(home / "model.pt")
    assert plain.task.source_tokenizer is not None
    assert "@@" not in plain.translate(TEXT, beam=1, max_len_b=5)
    # fastBPE's codes have counts, which published models come with.
    lines = (home / "bpecodes").read_text().splitlines()[1:]
    (home / "bpecodes").write_text("".join(f"{line} 17\n" for line in lines))
    fast = seqjax.load(home / "model.pt", bpe="fastbpe", tokenizer="moses")
    np.testing.assert_array_equal(fast.encode("gegen ihn"), plain.encode("gegen ihn"))
    np.testing.assert_array_equal(fast.encode("gegen ihn."), plain.encode("gegen ihn ."))


def test_an_ensemble_of_a_file_and_a_folder(home, data, tmp_path):
    convert.main([str(MODEL), str(tmp_path / "run"), "--data", str(data)])
    one = seqjax.load(MODEL, data=data)
    two = seqjax.load(os.pathsep.join([str(MODEL), str(tmp_path / "run")]), data=data)
    assert len(two.models) == 2
    ids = one.encode(TEXT)
    np.testing.assert_allclose(
        two.log_probs([ids], [[2, 7]]), one.log_probs([ids], [[2, 7]]), atol=1e-6)


def changed(tmp_path, **changes):
    """The golden with other options."""
    tree = dict(read_pt(MODEL))
    cfg = {**tree["cfg"], **changes.pop("groups", {})}
    cfg["model"] = {**cfg["model"], **changes}
    write_pt(tmp_path / "changed.pt", {**tree, "cfg": cfg})
    return tmp_path / "changed.pt"


def test_mistakes_name_what_is_wrong(home, data, tmp_path):
    (home / "dict.en.txt").unlink()
    with pytest.raises(ConfigError, match="looked for dict.en.txt in .*data='data-bin'"):
        seqjax.load(home / "model.pt")
    with pytest.raises(FileNotFoundError, match="nowhere: no such data folder"):
        seqjax.load(MODEL, data=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nosuch.pt: no such file"):
        seqjax.load("nosuch.pt")
    (home / "dict.en.txt").write_text("only 1\nthree 1\nwords 1\n")
    with pytest.raises(ConfigError, match="has 360 target words, but .*dict.en.txt has 7"):
        seqjax.load(home / "model.pt")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="bpe, tokenizer: these are for fairseq"):
        seqjax.load(tmp_path / "run", bpe="subword_nmt")
    with pytest.raises(ConfigError, match="task is 'text_to_speech'"):
        seqjax.load(changed(tmp_path, groups={"task": {"_name": "text_to_speech"}}), data=data)
    with pytest.raises(ConfigError, match="'multires_hubert' of fairseq is not in"):
        seqjax.load(changed(tmp_path, arch="multires_hubert"), data=data)
    with pytest.raises(ConfigError, match="subwords 'nosuch' are not"):
        seqjax.load(changed(tmp_path, groups={"bpe": {"_name": "nosuch"}}), data=data)


# ---- generate and interactive, line for line ----


def printed(run, arguments) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        run(arguments)
    return out.getvalue().splitlines()


def check_lines(name: str, found: list[str]) -> None:
    """The same lines; numbers within 1e-4 (and the rounding of four digits), no times."""
    wanted = (FOLDER / name).read_text().splitlines()[1:]
    assert len(found) == len(wanted)
    for a, b in zip(wanted, found, strict=True):
        fields = re.split(r"[\t ,]", a), re.split(r"[\t ,]", b)
        assert len(fields[0]) == len(fields[1]), (a, b)
        for x, y in zip(*fields, strict=True):
            if x == y or a.startswith("W-"):
                continue
            assert re.fullmatch(r"-?\d+\.\d+", x) and abs(float(x) - float(y)) < 1.51e-4, (a, b)


def options(name: str) -> list[str]:
    first = (FOLDER / name).read_text().splitlines()[0]
    return [word for word in first.removeprefix("# ").split() if word != "--cpu"]


@pytest.mark.parametrize("name", [
    "generate", "generate_multiple", "generate_sacrebleu", "generate_prefix", "generate_padded",
    "generate_align", "generate_align_soft", "score_reference"])
def test_what_fairseq_generate_printed(name, data):
    padded = ["--padded-source-len"] if name == "generate_padded" else []
    found = printed(generate.main, ["--checkpoint", str(MODEL), "--data", str(data), *padded,
                                    "--format", "fairseq", *options(f"{name}.txt")])
    check_lines(f"{name}.txt", found)


def test_what_fairseq_interactive_printed(data, tmp_path):
    wanted = (FOLDER / "interactive.txt").read_text().splitlines()
    sources = [line.partition("\t")[2] for line in wanted if line.startswith("S-")]
    (tmp_path / "in").write_text("\n".join(sources) + "\n")
    found = printed(interactive.main, [
        "--path", str(MODEL), "--data", str(data), "--format", "fairseq",
        "--input", str(tmp_path / "in"), *options("interactive.txt")])
    check_lines("interactive.txt", found)


@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_what_fairseq_interactive_printed_with_constraints(data, tmp_path, order):
    name = f"interactive_constraints_{order}.txt"
    lines: list[str] = []
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith(("S-", "C-")):
            text = line.partition("\t")[2]
            lines += [text] if line.startswith("S-") else [f"{lines.pop()}\t{text}"]
    (tmp_path / "in").write_text("\n".join(lines) + "\n")
    found = printed(interactive.main, [
        "--path", str(MODEL), "--data", str(data), "--format", "fairseq",
        "--input", str(tmp_path / "in"), *options(name)])
    check_lines(name, found)


def test_generate_takes_text_with_the_dictionaries_of_a_folder(data, tmp_path):
    (tmp_path / "in").write_text("und er\n")
    found = printed(generate.main, ["--checkpoint", str(MODEL), "--data", str(data),
                                    "--input", str(tmp_path / "in"), "--max-len-b", "4"])
    assert len(found) == 1
    for wrong in (["--score-reference"], ["--scoring", "chrf"]):
        with pytest.raises(SystemExit):
            generate.main(["--checkpoint", str(MODEL), "--input", str(tmp_path / "in"), *wrong])


@pytest.mark.parametrize(("keys", "order"), [
    # Recorded from torch.sort(..., descending=True) on a CPU.
    ([9, 9, 9, 10, 10, 10, 10, 10, 10, 11, 12, 12, 13, 13, 13, 13, 13, 13, 14, 15],
     [19, 18, 17, 16, 15, 14, 13, 12, 10, 11, 9, 8, 7, 6, 5, 4, 3, 0, 2, 1]),
    ([3, 1, 2, 3, 1, 2], [0, 3, 2, 5, 1, 4]),
    ([], []),
])
def test_ties_fall_as_torch_s_do(keys, order):
    assert falling_order(keys).tolist() == order


# ---- training ----


def resumed(data, **changes):
    raw = fairseq_recipe.from_fairseq(fairseq_config.from_checkpoint(read_pt(MODEL))).raw
    raw["task"]["data"] = str(data)
    raw["train"]["max_update"] = 58
    raw["batching"]["num_shapes"] = 1  # one program to compile; padding changes no number
    raw["log"] = {"interval_updates": 1, "tensorboard": False, "compilation_cache": None}
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    return hub.resolve(raw)


def test_going_on_logs_what_fairseq_logged(data, tmp_path):
    config = resumed(data, resume_from=str(MODEL))
    start = fairseq_start.start_from(config)
    assert start.step == 50
    train_loop.train(config, workdir=str(tmp_path / "run"), start=start)
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    found = {int(x["num_updates"]): x for x in lines if x["group"] == "train_inner"}
    recorded = json.loads((FOLDER / "log.json").read_text())["updates"]
    assert [int(x["num_updates"]) for x in recorded] == list(range(51, 59))
    for theirs in recorded:
        ours = found[int(theirs["num_updates"])]
        for key, digits in (("loss", 3), ("nll_loss", 3), ("gnorm", 3), ("wpb", 1), ("bsz", 1)):
            assert ours[key] == pytest.approx(float(theirs[key]), abs=1.1 * 10**-digits), key
        assert ours["lr"] == pytest.approx(float(theirs["lr"]), rel=1e-5)


def test_fine_tuning_begins_fresh(data):
    start = fairseq_start.start_from(resumed(data, init_from=str(MODEL)))
    assert start.step == 0 and start.opt_state is None
    assert start.data.epoch == 1 and start.data.batch == 0
    assert fairseq_start.start_from(resumed(data)) is None
    assert fairseq_start.start_from(resumed(data, init_from="runs/some-folder")) is None


@pytest.mark.parametrize(("changes", "message"), [
    ({"resume_from": str(MODEL), "model": {"encoder_ffn_embed_dim": 32}},
     "model.encoder_ffn_embed_dim: 24 there, 32 here"),
    ({"resume_from": str(MODEL), "optimizer": {"name": "nag"}}, "its optimizer is adam"),
    ({"resume_from": str(MODEL), "optimizer": {"name": "adafactor"}}, "adafactor cannot be carr"),
    ({"resume_from": str(MODEL), "init_from": str(MODEL)}, "give one of them"),
])
def test_what_cannot_be_continued(data, changes, message):
    with pytest.raises(ConfigError, match=message):
        fairseq_start.start_from(resumed(data, **changes))
