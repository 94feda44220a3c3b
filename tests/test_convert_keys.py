"""`convert keys`: what becomes of every tensor of a checkpoint, on recorded files of all ages."""

from __future__ import annotations

import json

import family_goldens as goldens
import jax
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import write_data

from seqjax import convert
from seqjax.interop.torch.files import read_pt
from seqjax.interop.torch.writer import write_pt

TRANSFORMER = goldens.FOLDER / "transformer"
OLD = ("old", "old_prenorm", "old_first_prenorm")


def listed(path, capsys, *, status=0):
    """Rows by (name, parameter), and what was said beside them."""
    assert (convert.main(["keys", str(path), "--json"]) or 0) == status
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    return {(row["name"], row["parameter"]): row for row in rows}, err


def parameters(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from parameters(value, (*path, key))
        else:
            yield "/".join((*path, key))


@pytest.mark.parametrize("case", sorted(p.parent.name for p in TRANSFORMER.glob("*/*.pt")))
def test_every_tensor_and_every_parameter_is_listed(case, capsys):
    from seqjax.interop.fairseq.checkpoint import load_fairseq

    path = TRANSFORMER / case / "checkpoint.pt"
    tree, found = read_pt(path)["model"], load_fairseq(path)
    rows, err = listed(path, capsys)
    assert list(dict.fromkeys(name for name, _ in rows)) == list(tree)
    for (name, _), row in rows.items():
        assert row["shape"] == list(tree[name].shape) and row["dtype"] == tree[name].dtype.name
        assert row["fits"] and row["how"]
    assert {parameter for _, parameter in rows} - {""} == set(parameters(found.params))
    assert f"{len(tree)} tensors" in err and "0 do not fit" in err


def test_kinds_of_rows(capsys):
    rows, _ = listed(TRANSFORMER / "merged" / "checkpoint.pt", capsys)
    how = {name: row["how"] for (name, _), row in rows.items()}
    assert how["encoder.embed_tokens.weight"] == "same"
    assert how["decoder.output_projection.weight"] == "a copy of encoder.embed_tokens.weight"
    assert how["decoder.version"] == "holds no parameter"
    assert how["encoder.layers.1.fc1.weight"] == "transposed, layer 1 of 2"


def test_old_names_say_what_they_became(capsys):
    """Stacked projections, numbered norms, an output layer without a module."""
    rows, _ = listed(TRANSFORMER / "old" / "checkpoint.pt", capsys)
    place = "decoder/layers/encoder_attn/v_proj/kernel"
    assert rows["decoder.layers.1.encoder_attn.in_proj_weight", place]["how"] == (
        "rows 16 to 23 are decoder.layers.1.encoder_attn.v_proj.weight; transposed, layer 1 of 2")
    place = "encoder/layers/final_layer_norm/scale"
    assert rows["encoder.layers.0.layer_norms.1.weight", place]["how"] == (
        "renamed to encoder.layers.0.final_layer_norm.weight; same, layer 0 of 2")
    rows, _ = listed(TRANSFORMER / "old_prenorm" / "checkpoint.pt", capsys)
    assert rows["decoder.embed_out", "decoder/output_projection/kernel"]["how"] == (
        "renamed to decoder.output_projection.weight; transposed")


def test_layers_that_are_left_out(capsys):
    rows, _ = listed(TRANSFORMER / "pruned" / "checkpoint.pt", capsys)
    assert rows["encoder.layers.1.fc1.bias", ""]["how"] == (
        "left out: the layers to keep are (0, 2)")
    assert rows["encoder.layers.2.fc1.bias", "encoder/layers/fc1/bias"]["how"] == (
        "same, layer 2 of 3, kept as layer 1")


@pytest.mark.parametrize(("case", "name", "parameter", "how"), [
    ("lstm/bidirectional", "encoder.lstm.weight_ih_l0_reverse",
     "encoder/lstm/l0_reverse/ih/kernel", "transposed"),
    ("fconv/mixed", "encoder.convolutions.0.weight_g",
     "encoder/convolutions_0/weight_g", "[1, 1, C] as [C]"),
    ("lightconv/lightweight", "encoder.layers.0.conv.weight", "encoder/convs_0/weight",
     "without its middle axis"),
    ("lightconv/dynamic", "encoder.layers.0.conv.conv_bias", "", "a parameter that is never used"),
    ("transformer_lm/adaptive", "decoder.embed_tokens.embeddings.1.1.weight",
     "decoder/embed_tokens/embeddings_1/proj/kernel", "transposed"),
])
def test_other_families(case, name, parameter, how, tmp_path, capsys):
    golden = goldens.load(case)
    with np.load(goldens.FOLDER / f"{case}.npz") as file:
        about = json.loads(str(file["about"]))
    args = {"criterion": "cross_entropy", "max_source_positions": 20, "max_target_positions": 20,
            "tokens_per_sample": 20, "task": "a_task_of_ones_own", "arch": about["arch"],
            **about["args"]}
    write_pt(tmp_path / "model.pt", {"args": args, "model": golden.state})
    rows, err = listed(tmp_path / "model.pt", capsys)
    assert rows[name, parameter]["how"] == how
    assert len({name for name, _ in rows}) == len(golden.state)
    assert {p for _, p in rows} - {""} == set(parameters(golden.checkpoint.params))


def test_a_file_that_does_not_load(tmp_path, capsys):
    """Which is when people ask."""
    tree = read_pt(TRANSFORMER / "postnorm" / "checkpoint.pt")
    state = dict(tree["model"])
    del state["encoder.layers.0.fc1.bias"]
    state["encoder.layers.0.fc2.weight"] = np.zeros((3, 3), np.float32)
    state["encoder.pooler.weight"] = np.zeros((4, 5), np.float32)
    state["decoder.layers.0.fc1.bias"] = state["decoder.layers.0.fc1.bias"].astype(np.int64)
    write_pt(tmp_path / "model.pt", {**tree, "model": state})
    rows, err = listed(tmp_path / "model.pt", capsys, status=1)
    wrong = {key: row["how"] for key, row in rows.items() if not row["fits"]}
    assert wrong == {
        ("encoder.layers.0.fc1.bias", "encoder/layers/fc1/bias"): "missing: wanted [12]",
        ("encoder.layers.0.fc2.weight", "encoder/layers/fc2/kernel"):
            "misshapen: has [3, 3], wanted [8, 12]",
        ("encoder.pooler.weight", ""): "unexpected: has [4, 5]",
        ("decoder.layers.0.fc1.bias", "decoder/layers/fc1/bias"): "wrong type: has int64",
    }
    assert list(rows)[-1][0] == "encoder.layers.0.fc1.bias" and "4 do not fit" in err
    assert convert.main(["keys", str(tmp_path / "model.pt")]) == 1
    lines = capsys.readouterr().out.splitlines()
    marked = [line for line in lines if line.startswith("! ")]
    assert len(marked) == 4
    assert marked[-1].split()[1:4] == ["encoder.layers.0.fc1.bias", "-", "[12]"]


def test_a_model_that_is_not_known(tmp_path, capsys):
    tree = read_pt(TRANSFORMER / "postnorm" / "checkpoint.pt")
    args = {"arch": "somebodys_model", "task": "translation"}
    write_pt(tmp_path / "model.pt", {"args": args, "model": tree["model"]})
    rows, err = listed(tmp_path / "model.pt", capsys, status=2)
    assert len(rows) == len(tree["model"])
    assert {row["how"] for row in rows.values()} == {"no model to compare it with"}
    assert "error: " in err and "somebodys_model" in err
    embedding = "encoder.embed_tokens.weight"
    state = {k: v for k, v in tree["model"].items() if k != embedding}
    write_pt(tmp_path / "model.pt", {**tree, "model": state})
    rows, err = listed(tmp_path / "model.pt", capsys, status=2)
    assert len(rows) == len(state) and f"the checkpoint's model has no {embedding}" in err


def test_a_folder_of_ours(tmp_path, capsys):
    """What fairseq is given for it, in the order of its modules; the same as of the file."""
    folder = write_checkpoint(tmp_path / "run", write_data(tmp_path / "data"))
    rows, err = listed(folder, capsys)
    convert.main([str(folder), str(tmp_path / "model.pt")])
    capsys.readouterr()
    assert listed(tmp_path / "model.pt", capsys)[0] == rows
    assert rows["encoder.layers.0.fc1.weight", "encoder/layers/fc1/kernel"]["shape"] == [16, 8]


def test_columns_stand_under_their_headings(capsys):
    assert not convert.main(["keys", str(TRANSFORMER / "postnorm" / "checkpoint.pt")])
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    at = head.index("parameter")
    assert head.split() == ["tensor", "type", "shape", "parameter", "transform"]
    for line in lines:
        assert line[at - 1] == " " and line[at] != " " and line.startswith("  ")
    assert len(lines) == int(err.split()[0])


def test_words_that_are_no_checkpoint(tmp_path, capsys):
    with pytest.raises(FileNotFoundError):
        convert.main(["keys", str(tmp_path / "none.pt")])
    with pytest.raises(SystemExit):
        convert.main(["keys"])
    assert "source" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--which is for a work folder"):
        convert.main(["keys", str(TRANSFORMER / "old" / "checkpoint.pt"), "--which", "last"])
    write_pt(tmp_path / "other.pt", {"weights": jax.numpy.zeros(3).__array__()})
    with pytest.raises(ValueError, match="it has no `model`"):
        convert.main(["keys", str(tmp_path / "other.pt")])
