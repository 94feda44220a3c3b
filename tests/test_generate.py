"""The commands `generate` and `interactive`: formats, order, resuming, mistakes."""

from __future__ import annotations

import io
import json

import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import write_data

import seqjax
from seqjax import generate, interactive
from seqjax.config import ConfigError

TEXTS = ["aa1 aa2", "aa0", "aa3 aa4 aa5 aa6 aa7 aa8", "", "aa2 aa2 aa2 aa2"]
SEARCH = ["--beam", "2", "--max-len-b", "12"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("generate")
    data = write_data(root / "data")
    write_checkpoint(root / "run", data)
    (root / "in").write_text("\n".join(TEXTS) + "\n")
    return root


@pytest.fixture(scope="module")
def expected(run):
    return seqjax.load(run / "run").generate(TEXTS, beam=2, max_len_b=12, nbest=2)


def command(run, *more, to="out"):
    return ["--checkpoint", str(run / "run"), "--output", str(run / to), *SEARCH, *more]


def test_text_in_input_order(run, expected):
    generate.main([*command(run), "--input", str(run / "in")])
    assert (run / "out").read_text().splitlines() == [h[0].text for h in expected]
    assert not (run / "out.part").exists()


def test_jsonl(run, expected):
    generate.main([*command(run), "--input", str(run / "in"), "--format", "jsonl", "--nbest", "2"])
    lines = [json.loads(line) for line in (run / "out").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(range(5))
    assert lines[0]["source"] == "aa1 aa2"
    for line, hypotheses in zip(lines, expected, strict=True):
        assert [h["text"] for h in line["hypotheses"]] == [h.text for h in hypotheses]
        assert line["hypotheses"][0]["tokens"] == hypotheses[0].tokens.tolist()
        assert line["hypotheses"][1]["score"] == pytest.approx(hypotheses[1].score, abs=1e-5)


def test_stdin_to_stdout(run, expected, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    arguments = [*command(run), "--input", "-"]
    arguments[arguments.index("--output") + 1] = "-"
    generate.main(arguments)
    assert capsys.readouterr().out.splitlines() == [h[0].text for h in expected]


def test_fairseq_lines_of_a_data_folder(run):
    generate.main([*command(run), "--data", str(run / "data"), "--subset", "valid",
                   "--format", "fairseq", "--nbest", "2"])
    lines = (run / "out").read_text().splitlines()
    kinds = [line[0] for line in lines if line[1] == "-"]
    assert kinds == ["S", "T", "H", "D", "P", "H", "D", "P"] * 8
    ids = {int(line.split("\t")[0][2:]) for line in lines if line.startswith("S-")}
    assert ids == set(range(8))
    h, p = (next(line for line in lines if line.startswith(k)) for k in "HP")
    values = [float(x) for x in p.split("\t")[1].split()]
    assert float(h.split("\t")[1]) == pytest.approx(sum(values) / len(values), abs=1e-3)


def test_prefix_size_forces_the_reference(run):
    generate.main([*command(run), "--data", str(run / "data"), "--subset", "valid",
                   "--format", "fairseq", "--prefix-size", "1"])
    lines = (run / "out").read_text().splitlines()
    words = {kind: [line.split("\t")[-1].split()[0] for line in lines if line.startswith(kind)]
             for kind in ("T-", "H-")}
    assert words["T-"] == words["H-"]


def test_a_killed_job_goes_on(run, expected, monkeypatch, capsys):
    """Killed after three sentences, with a torn line: the rest is decoded, nothing twice."""
    journal_add = generate.Journal.add
    counted = []

    class Killed(Exception):
        pass

    def add(self, index, hypotheses):
        if len(counted) == 3:
            with open(self.path, "a") as file:
                file.write('{"id": 4, "hypo')
            raise Killed
        counted.append(index)
        journal_add(self, index, hypotheses)

    monkeypatch.setattr(generate.Journal, "add", add)
    arguments = [*command(run, to="killed"), "--input", str(run / "in")]
    with pytest.raises(Killed):
        generate.main(arguments)
    assert not (run / "killed").exists()
    done = list(counted)

    def count_only(self, index, hypotheses):
        counted.append(index)
        journal_add(self, index, hypotheses)

    monkeypatch.setattr(generate.Journal, "add", count_only)
    generate.main(arguments)
    assert (run / "killed").read_text().splitlines() == [h[0].text for h in expected]
    assert sorted(counted) == [0, 1, 2, 3, 4] and counted[:3] == done
    assert "3 of 5 sentences are done already" in capsys.readouterr().err


def test_another_jobs_journal_is_not_used(run, expected):
    (run / "out.part").write_text('{"other": "job"}\n{"id": 0, "hypotheses": []}\n')
    generate.main([*command(run), "--input", str(run / "in")])
    assert (run / "out").read_text().splitlines() == [h[0].text for h in expected]


def test_interactive(run, expected, capsys):
    base = ["--checkpoint", str(run / "run"), *SEARCH, "--input", str(run / "in")]
    interactive.main([*base, "--buffer-size", "2"])
    assert capsys.readouterr().out.splitlines() == [h[0].text for h in expected]
    interactive.main([*base, "--format", "fairseq", "--buffer-size", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        f"{kind}-{i}" for i in range(5) for kind in "SWHDP"
    ]


@pytest.mark.parametrize("more, message", [
    (["--input", "nowhere"], "nowhere: no such"),
    (["--input", "{run}/in", "--output", "{run}/no/out"], "does not exist"),
    (["--input", "{run}/in", "--output", "{run}/run"], "is a folder"),
    (["--input", "{run}/empty"], "empty"),
    (["--input", "{run}/latin1"], "latin1: line 2 is not UTF-8"),
    (["--input", "{run}/long"], "long, line 2 has 1201 tokens.* most 1024: --too-long"),
    (["--input", "{run}/in", "--checkpoint", "{run}/data"], "holds no checkpoint"),
    (["--input", "{run}/in", "--sampling"], "set nbest"),
    (["--data", "{run}/data", "--subset", "vaild"], "vaild"),
])
def test_mistakes_are_found_before_decoding(run, more, message):
    (run / "empty").write_text("")
    (run / "latin1").write_bytes(b"aa1\naa\xe4\n")
    (run / "long").write_text("aa1\n" + "aa1 " * 1200 + "\n")
    arguments = [*command(run), *(x.format(run=run) for x in more)]
    with pytest.raises((ConfigError, ValueError, FileNotFoundError), match=message):
        generate.main(arguments)


def test_mistakes_on_the_command_line(run, capsys):
    for arguments, message in [
        ([*command(run)], "either --input"),
        ([*command(run), "--input", "x", "--beam", "two"], "expected int, got 'two'"),
        ([*command(run), "--input", "x", "--beem", "2"], "--beem"),
    ]:
        with pytest.raises(SystemExit):
            generate.main(arguments)
        assert message in capsys.readouterr().err


# ---- jobs that were not finished ----


def killed(run, monkeypatch, *more, after=3, to="job"):
    """Begins a job that is killed after some sentences."""
    journal_add, counted = generate.Journal.add, []

    class Killed(Exception):
        pass

    def add(self, index, hypotheses):
        if len(counted) == after:
            raise Killed
        counted.append(index)
        journal_add(self, index, hypotheses)

    with monkeypatch.context() as patched:
        patched.setattr(generate.Journal, "add", add)
        with pytest.raises(Killed):
            generate.main([*command(run, to=to), "--input", str(run / "in"), *more])


def test_the_job_before_is_kept_and_goes_on(run, expected, monkeypatch, capsys):
    killed(run, monkeypatch, "--max-tokens", "5000")
    part = (run / "job.part").read_text()
    generate.main([*command(run, to="job"), "--input", str(run / "in"), "--lenpen", "2"])
    said = capsys.readouterr().err
    assert f"{run / 'job.part'}: holds 3 finished sentences of another job (" in said
    assert "lenpen not given there, 2.0 here" in said
    assert f"kept as {run / 'job.part'}.1" in said
    assert (run / "job.part.1").read_text() == part and not (run / "job.part").exists()
    # A third job that is killed as well, and the first one again.
    killed(run, monkeypatch, "--lenpen", "0.5", after=2)
    generate.main([*command(run, to="job"), "--input", str(run / "in"), "--max-tokens", "5000"])
    said = capsys.readouterr().err
    assert "3 of 5 sentences are done already" in said
    assert "exists, and is replaced when this job is done" in said
    assert (run / "job").read_text().splitlines() == [h[0].text for h in expected]
    assert [p.name for p in sorted(run.glob("job.part*"))] == ["job.part.2"]
    assert (run / "job.part.2").read_text().count('"id"') == 2


def test_a_damaged_journal_keeps_its_whole_lines(run, expected, monkeypatch, capsys):
    killed(run, monkeypatch, after=4, to="damaged")
    path = run / "damaged.part"
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:10] + b"\0\0\xff" + lines[2][13:]
    path.write_bytes(b"\n".join(lines[:-1]) + b'\n{"id": 99, "hypo')
    generate.main([*command(run, to="damaged"), "--input", str(run / "in")])
    assert "3 of 5 sentences are done already (2 damaged lines are done again)" in (
        capsys.readouterr().err)
    assert (run / "damaged").read_text().splitlines() == [h[0].text for h in expected]


@pytest.mark.parametrize("content, kept", [
    ("", False), ('{"other": "job"}\n', False), ("notes of mine\n", True),
    ('{"other": "job"}\n{"id": 0, "hypotheses": []}\n', True),
])
def test_what_is_in_the_way_is_kept_if_it_is_anything(run, content, kept):
    (run / "way.part").write_text(content)
    generate.main([*command(run, to="way"), "--input", str(run / "in")])
    assert (run / "way.part.1").exists() == kept
    if kept:
        assert (run / "way.part.1").read_text() == content
        (run / "way.part.1").unlink()
