"""Constraints, permitted outputs and language-model fusion from the command line and the API."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import reference_constraints
import reference_search
from tiny_checkpoint import write_checkpoint, write_language_model
from tiny_run import write_data

import seqjax
from seqjax import convert, generate, interactive
from seqjax.commands import jobs
from seqjax.config import ConfigError
from seqjax.tasks import output_constraints

TEXTS = ["aa1 aa2", "aa0", "aa3 aa4 aa5 aa6"]
PHRASES = [["bb3 bb4", "bb1"], [], ["bb7"]]
SEARCH = ["--beam", "4", "--max-len-b", "12"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("constraints")
    data = write_data(root / "data")
    write_checkpoint(root / "run", data)
    write_language_model(root / "lm", data / "dict.bb.txt")
    lines = ["\t".join([text, *phrases]) for text, phrases in zip(TEXTS, PHRASES, strict=True)]
    (root / "in").write_text("\n".join(lines) + "\n")
    (root / "plain").write_text("\n".join(TEXTS) + "\n")
    (root / "outputs").write_text("bb1 bb2\nbb1\nbb5 bb6 bb7\n")
    return root


@pytest.fixture(scope="module")
def model(run):
    return seqjax.load(run / "run")


def command(run, *more, to="out", source="in"):
    return ["--checkpoint", str(run / "run"), *SEARCH, *more, "--input", str(run / source),
            *(["--output", str(run / to)] if to else [])]


@pytest.fixture(scope="module")
def expected(model):
    return model.generate(TEXTS, constraints=PHRASES, constraint_order="unordered", beam=4,
                          max_len_b=12)


def test_phrases_are_in_the_output(model, expected):
    for phrases, found in zip(PHRASES, expected, strict=True):
        assert found[0].score > -np.inf
        assert all(f" {phrase} " in f" {found[0].text} " for phrase in phrases)
    ids = [[model.task.encode_target(p)[:-1].tolist() for p in each] for each in PHRASES]
    again = model.generate(TEXTS, constraints=ids, constraint_order="unordered", beam=4,
                           max_len_b=12)
    assert [h[0].text for h in again] == [h[0].text for h in expected]
    ordered = model.generate(TEXTS, constraints=PHRASES, beam=4, max_len_b=12)
    first = ordered[0][0].text
    assert first.index("bb3 bb4") < first.rindex("bb1")


def test_generate_takes_phrases_after_tabs(run, expected):
    generate.main(command(run, "--constraints", "unordered"))
    assert (run / "out").read_text().splitlines() == [h[0].text for h in expected]
    generate.main(command(run, "--constraints", "unordered", "--format", "jsonl"))
    lines = [json.loads(line) for line in (run / "out").read_text().splitlines()]
    assert [line["source"] for line in lines] == TEXTS
    assert [line["constraints"] for line in lines] == PHRASES


@pytest.mark.parametrize("verb", [generate, interactive])
def test_fairseq_lines(run, expected, verb, capsys):
    verb.main(command(run, "--constraints", "unordered", "--format", "fairseq",
                      *(["--buffer-size", "2"] if verb is interactive else []), to=None))
    lines = capsys.readouterr().out.splitlines()
    timing = "W" if verb is interactive else ""
    kinds = [f"{k}-{i}" for i, n in enumerate((2, 0, 1)) for k in f"S{timing}{'C' * n}HDP"]
    assert [line.split("\t")[0] for line in lines] == kinds
    shown = [line.split("\t")[1] for line in lines if line.startswith("C-")]
    assert shown == [phrase for phrases in PHRASES for phrase in phrases]
    assert [line.split("\t")[2] for line in lines if line.startswith("D-")] == [
        h[0].text for h in expected]


def test_permitted_outputs(run, model, capsys):
    generate.main(command(run, "--allowed-outputs", str(run / "outputs"), source="plain"))
    found = (run / "out").read_text().splitlines()
    permitted = (run / "outputs").read_text().splitlines()
    trie = model.trie(permitted)
    by_function = model.generate(
        TEXTS, beam=4, max_len_b=12,
        prefix_allowed_tokens_fn=lambda number, ids: trie.next_tokens(ids[1:]))
    assert set(found) <= set(permitted)
    assert found == [h[0].text for h in by_function]
    interactive.main(command(run, "--allowed-outputs", str(run / "outputs"), source="plain",
                             to=None))
    assert capsys.readouterr().out.splitlines() == found
    mine = model.generate(TEXTS[:2], beam=2, allowed=[model.trie(["bb9"]), model.trie(["bb8"])])
    assert [h[0].text for h in mine] == ["bb9", "bb8"]


def test_another_demand_is_another_job(run, expected):
    """What is left of an unfinished job is not taken for one with other constraints."""
    arguments = command(run, "--constraints", "unordered")
    kept = []
    for order in ("ordered", "unordered", "unordered"):
        args = generate.parse([*command(run), "--constraints", order])
        loaded = seqjax.load(run / "run")
        job = jobs.text_job(args, (run / "in").read_text().splitlines())
        kept.append(jobs.fingerprint(args, loaded, job, {}))
    assert kept[0] != kept[1] == kept[2]
    (run / "out.part").write_text(kept[0] + '\n{"id": 0, "hypotheses": []}\n')
    generate.main(arguments)
    assert (run / "out").read_text().splitlines() == [h[0].text for h in expected]


# ---- fusion ----


def test_a_language_model_is_added(run, capsys):
    weight = 0.8
    fused = seqjax.load(run / "run", lm=run / "lm")
    lm = seqjax.load(run / "lm")
    found = fused.generate(TEXTS, beam=3, nbest=3, max_len_b=8, lm_weight=weight)
    plain = fused.generate(TEXTS, beam=3, nbest=3, max_len_b=8)
    assert [h[0].text for h in plain] != [h[0].text for h in found]
    for text, hypotheses in zip(TEXTS, found, strict=True):
        ids = fused.encode(text)
        wanted = reference_search.search(
            lambda tokens, ids=ids: [fused.log_probs([ids], [[2, *tokens]])[0, -1]], beam=3,
            vocabulary=16, max_len=8, source_len=len(ids), lm_weight=weight,
            lm=lambda tokens: lm.log_probs([[2, *tokens]])[0, -1])
        assert [h.tokens.tolist() for h in hypotheses] == [tokens for tokens, _, _ in wanted]
        np.testing.assert_allclose([h.score for h in hypotheses], [s for _, s, _ in wanted],
                                   atol=2e-5)
    arguments = ["--beam", "3", "--max-len-b", "8", "--lm-path", str(run / "lm"),
                 "--lm-weight", str(weight)]
    generate.main([*command(run, source="plain"), *arguments])
    assert (run / "out").read_text().splitlines() == [h[0].text for h in found]
    interactive.main([*command(run, source="plain", to=None), *arguments])
    assert capsys.readouterr().out.splitlines() == [h[0].text for h in found]
    same = seqjax.load(run / "run", lm=lm)
    assert same.translate(TEXTS, beam=3, max_len_b=8, lm_weight=weight) == [
        h[0].text for h in found]
    assert same.identity != seqjax.load(run / "run").identity


def test_a_pt_is_a_language_model_too(run, tmp_path):
    """With its dictionary beside it, or in the data folder."""
    convert.main([str(run / "lm"), str(tmp_path / "lm.pt")])
    shutil.copy(run / "data" / "dict.bb.txt", tmp_path / "dict.txt")
    options = dict(beam=3, max_len_b=8, lm_weight=0.8)
    expected = seqjax.load(run / "run", lm=run / "lm").translate(TEXTS, **options)
    assert seqjax.load(run / "run", lm=tmp_path / "lm.pt").translate(TEXTS, **options) == expected
    shutil.copytree(run / "data", tmp_path / "data")
    shutil.move(tmp_path / "dict.txt", tmp_path / "data")
    found = seqjax.load(run / "run", data=tmp_path / "data", lm=tmp_path / "lm.pt")
    assert found.translate(TEXTS, **options) == expected


def test_fusion_goes_with_constraints(run):
    fused = seqjax.load(run / "run", lm=run / "lm")
    found = fused.generate(TEXTS, constraints=PHRASES, beam=4, max_len_b=12, lm_weight=0.5)
    for phrases, hypotheses in zip(PHRASES, found, strict=True):
        ids = [fused.task.encode_target(p)[:-1] for p in phrases]
        assert reference_constraints.contains(
            hypotheses[0].tokens, [i.tolist() for i in ids], "ordered")


def test_another_vocabulary_is_refused(run, tmp_path):
    other = write_language_model(tmp_path / "lm", run / "data" / "dict.aa.txt")
    with pytest.raises(ConfigError, match=rf"vocabulary of {other}.*not the target vocabulary of "
                                          rf"{run / 'run'}"):
        seqjax.load(run / "run", lm=other)
    with pytest.raises(ConfigError, match="is not one language model"):
        seqjax.load(run / "run", lm=run / "run")
    with pytest.raises(ConfigError, match="is a language model itself"):
        seqjax.load(run / "lm", lm=run / "lm")
    with pytest.raises(ConfigError, match="lm_weight: 0.3, but no language model"):
        seqjax.load(run / "run").translate("aa1", lm_weight=0.3)


# ---- mistakes ----


@pytest.mark.parametrize(("more", "message"), [
    (["--constraints", "any"], "invalid choice: 'any'"),
    (["--constraints", "--allowed-outputs", "outputs"], "exclude each other"),
    (["--lm-path", "lm"], "--lm-path needs --lm-weight"),
])
def test_flags_that_do_not_go_together(run, more, message, capsys):
    for verb in (generate, interactive):
        with pytest.raises(SystemExit):
            verb.parse([*command(run, to=None), *more])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--data", "{run}/data"],
                                  ["--data", "{run}/data", "--score-reference"]])
def test_constraints_need_lines(run, more, capsys):
    arguments = ["--checkpoint", str(run / "run"), "--constraints",
                 *(x.format(run=run) for x in more)]
    with pytest.raises(SystemExit):
        generate.parse(arguments)
    assert "--constraints needs --input" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "more", "message"), [
    ("aa1\tbb1\naa2\t\tbb1\n", ["--constraints"], "line 2: a constraint .* is empty"),
    ("aa1\tbb1\n", ["--constraints", "--sampling", "--nbest", "4"], "constraints and sampling"),
    ("aa1\tbb1 bb2 bb3\n", ["--constraints", "--max-len-b", "2"], "have 3 tokens.*at most 2"),
    ("aa1\n", ["--allowed-outputs", "{run}/nowhere"], "nowhere: no such"),
    ("aa1\n", ["--allowed-outputs", "{run}/gap"], "gap: line 2 is empty"),
    ("aa1\n", ["--allowed-outputs", "{run}/nothing"], "nothing"),
    ("aa1\n", ["--lm-path", "{run}/nowhere", "--lm-weight", "1"], "nowhere"),
])
def test_mistakes(run, text, more, message):
    (run / "wrong").write_text(text)
    (run / "gap").write_text("bb1\n\n")
    (run / "nothing").write_text("")
    arguments = [*command(run, source="wrong", to=None), *(x.format(run=run) for x in more)]
    with pytest.raises((ConfigError, ValueError, FileNotFoundError), match=message):
        generate.main(arguments)


def test_lines_are_read_as_fairseq_reads_them():
    sources, phrases = output_constraints.split_lines([" a b\tc d \te\n", "x\t", "y", ""])
    assert sources == ["a b", "x", "y", ""] and phrases == [["c d ", "e"], [], [], []]
    with pytest.raises(TypeError, match="input 1 has the text 'bb1'"):
        output_constraints.phrase_ids(None, [[], "bb1"])


def test_constraints_from_stdin(run, expected, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO((run / "in").read_text()))
    interactive.main(["--checkpoint", str(run / "run"), *SEARCH, "--constraints", "unordered",
                      "--buffer-size", "3"])
    assert capsys.readouterr().out.splitlines() == [h[0].text for h in expected]


def test_a_language_model_takes_permitted_outputs_but_no_constraints(run):
    lm = seqjax.load(run / "lm")
    trie = lm.trie(["bb1 bb2 bb3", "bb1 bb4"])
    found = lm.generate(["bb1"], beam=2, nbest=2, max_len_b=6, allowed=trie)[0]
    assert sorted(h.text for h in found) == ["bb1 bb2 bb3", "bb1 bb4"]
    with pytest.raises(ConfigError, match="a language model takes none"):
        lm.generate(["bb1"], constraints=[["bb2"]])
