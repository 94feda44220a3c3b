"""Lines in, lines out: blank ones, long ones, their ends, each tokenised once."""

from __future__ import annotations

import io
import json
import sys
import types

import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint, write_language_model
from tiny_run import write_data

import seqjax
from seqjax import generate, interactive, score
from seqjax.config import ConfigError
from seqjax.data import sources, tokenizers
from seqjax.data.indexed import IndexedWriter
from seqjax.generation.errors import InputError

BLANK = ["", " ", "\t", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u2028", "\x0c", "\u00ad \u2060"]
SEARCH = ["--beam", "2", "--max-len-b", "12"]
OPTIONS = {"beam": 2, "max_len_b": 12}
LONG = "aa1 " * 40


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("lines")
    data = write_data(root / "data")
    write_checkpoint(root / "run", data, model={"max_source_positions": 20,
                                                "max_target_positions": 20})
    return root


@pytest.fixture(scope="module")
def model(run):
    return seqjax.load(run / "run", quiet=True)


def type_in(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


def generated(run, *more, source="in", name="out"):
    generate.main(["--checkpoint", str(run / "run"), "--input", str(run / source),
                   "--output", str(run / name), *SEARCH, *more])
    return (run / name).read_text().split("\n")[:-1]


# ---- blank lines ----


def test_blank_lines_come_out_blank_everywhere(run, model, monkeypatch, capsys):
    lines = ["aa1 aa2", *BLANK, "aa3"]
    (run / "in").write_text("\n".join(lines) + "\n")
    best = model.translate(["aa1 aa2", "aa3"], **OPTIONS)
    expected = [best[0], *[""] * len(BLANK), best[1]]
    assert best[0] and best[1]
    assert model.translate(lines, **OPTIONS) == expected
    assert model.translate("", **OPTIONS) == "" and model.translate([""], **OPTIONS) == [""]
    assert generated(run) == expected
    content = (run / "in").read_bytes()
    type_in(monkeypatch, content)
    capsys.readouterr()
    generate.main(["--checkpoint", str(run / "run"), "--input", "-", *SEARCH])
    assert capsys.readouterr().out.split("\n")[:-1] == expected
    type_in(monkeypatch, content)
    interactive.main(["--checkpoint", str(run / "run"), *SEARCH, "--buffer-size", "3"])
    assert capsys.readouterr().out.split("\n")[:-1] == expected


def test_unknown_words_in_decomposed_text_are_said(run, monkeypatch, capsys):
    """A letter and its accent apart are another word than the same composed."""
    lines = ["aa1 u\u0308", "aa1 \u00fc", "aa1 aa2", "u\u0308"]
    (run / "in").write_text("\n".join(lines) + "\n")
    generated(run)
    (note,) = [x for x in capsys.readouterr().err.split("\n") if x.startswith("note:")]
    assert f"{run / 'in'}, line 1 and 1 more: unknown words" in note and "--normalize nfc" in note
    type_in(monkeypatch, (run / "in").read_bytes())
    interactive.main(["--checkpoint", str(run / "run"), *SEARCH])
    assert "note: stdin, line 1 and 1 more: unknown words" in capsys.readouterr().err


@pytest.mark.parametrize("more", [
    {}, {"nbest": 2}, {"sampling": True, "nbest": 2}, {"alignment": "hard"},
    {"alignment": "soft"}, {"replace_unk": True}, {"prefixes": [[5], [5]]},
    {"constraints": [[], ["bb2"]]},
])
def test_a_blank_input_is_not_searched(model, more):
    """Its hypotheses look like all others, and do not change the next one's."""
    model.decoder(**OPTIONS)
    found = model.generate(["\u3000", "aa1 aa2"], **OPTIONS, **more)
    for h in found[0]:
        assert h.text == "" and h.tokens.tolist() == [2] and h.score == 0.0
        assert h.positional_scores.tolist() == [0.0]
        assert more.get("alignment") != "hard" or h.alignment == []
        assert more.get("alignment") != "soft" or h.attention.tolist() == [[1.0]]
        assert not more.get("replace_unk") or h.words == []
    assert len(found[0]) == len(found[1]) == more.get("nbest", 1)
    rest = {k: v[1:] if isinstance(v, list) else v for k, v in more.items()}
    alone = list(model.stream(["aa1 aa2"], numbers=[1], **OPTIONS, **rest))[0][1]
    assert [h.tokens.tolist() for h in alone] == [h.tokens.tolist() for h in found[1]]


def test_ids_of_nothing_are_blank_unless_asked_for(model):
    assert model.generate([[2]], **OPTIONS)[0][0].text == ""
    decoded = model.generate(["", [2]], decode_blank=True, **OPTIONS)
    assert decoded[0][0].text == decoded[1][0].text != ""


def test_a_blank_input_with_constraints_is_refused(run, model):
    with pytest.raises(InputError, match="source 1 is blank"):
        model.generate(["aa1", ""], constraints=[[], ["bb1"]], **OPTIONS)
    (run / "phrases").write_text("aa1\tbb1\n\n\tbb2\n")
    with pytest.raises(ConfigError, match="phrases, line 3: begins with a tab"):
        generated(run, "--constraints", source="phrases")


def test_formats_of_blank_lines(run, model):
    (run / "in").write_text("aa1\n\naa2\n")
    lines = [json.loads(x) for x in generated(run, "--format", "jsonl", "--nbest", "2")]
    assert [line["id"] for line in lines] == [0, 1, 2] and lines[1]["source"] == ""
    assert [h["text"] for h in lines[1]["hypotheses"]] == ["", ""]
    fairseq = generated(run, "--format", "fairseq")
    h = [line.split("\t")[2] for line in fairseq if line.startswith("H-")]
    assert h == [m[0].text for m in model.generate(["aa1", "", "aa2"], decode_blank=True,
                                                    **OPTIONS)] and h[1]
    assert generated(run, "--decode-blank") == h
    assert generated(run) == [h[0], "", h[2]]


def test_an_empty_sentence_of_a_data_folder(run, model):
    folder = write_data(run / "holes")
    for lang in ("aa", "bb"):
        with IndexedWriter(folder / f"test.aa-bb.{lang}", dtype=np.dtype(np.uint16)) as out:
            for ids in ([5, 6, 2], [2], [7, 2]):
                out.append(np.array(ids))
    arguments = ["--checkpoint", str(run / "run"), "--data", str(folder), *SEARCH,
                 "--output", str(run / "out")]
    generate.main(arguments)
    lines = (run / "out").read_text().split("\n")
    assert lines[1] == "" and lines[0] and lines[2]
    generate.main([*arguments, "--format", "fairseq"])
    text = (run / "out").read_text()
    assert dict(line.split("\t")[::2] for line in text.split("\n") if line[:2] == "H-")["H-1"]


def test_language_models(run):
    """A blank line is nothing to go on from; a prompt that is empty on purpose is."""
    write_language_model(run / "lm", run / "data" / "dict.aa.txt", positions=16)
    lm = seqjax.load(run / "lm", quiet=True)
    free = lm.sample("", max_len_b=8)
    assert free and lm.generate([[]], beam=1, max_len_b=8)[0][0].text == free
    (run / "in").write_text("aa1\n \naa2\n")
    arguments = ["--checkpoint", str(run / "lm"), "--input", str(run / "in"), "--beam", "1",
                 "--max-len-b", "8", "--output", str(run / "out")]
    generate.main(arguments)
    lines = (run / "out").read_text().split("\n")
    assert lines[0].startswith("aa1") and lines[1] == "" and lines[2].startswith("aa2")
    generate.main([*arguments, "--decode-blank"])
    assert (run / "out").read_text().split("\n")[1] == free
    generate.main([*arguments, "--format", "fairseq"])
    assert (run / "out").read_text().count("H-") == 3
    with pytest.raises(InputError, match="source 1 has 15 tokens, but an output has at most 15"):
        lm.generate(["aa1", [5] * 15])
    with pytest.raises(InputError, match="has 8 tokens, but an output has at most 8.*max_len_b"):
        lm.generate([[5] * 8], max_len_b=8)
    cut = lm.generate([[5] * 30], too_long="truncate", beam=1)[0][0]
    assert cut.tokens[:14].tolist() == [5] * 14
    assert lm.sample(["aa1 " * 30, "aa1"], too_long="skip")[0] == ""


# ---- lines over the limit ----


def test_a_long_line_is_an_error_before_anything_is_computed(run, model, monkeypatch):
    (run / "long").write_text("aa1\naa2\n" + LONG + "\n")
    monkeypatch.setattr(type(model), "_prepared", lambda *_: pytest.fail("computes"))
    with pytest.raises(ConfigError) as error:
        generated(run, source="long")
    assert str(error.value) == (
        f"{run / 'long'}, line 3 has 41 tokens, but the model takes at most 20: --too-long "
        "truncate cuts it, --too-long skip leaves its output empty")
    with pytest.raises(InputError, match="source 2 has 41 tokens.*too_long='truncate'"):
        model.generate(["aa1", "aa2", LONG], **OPTIONS)
    type_in(monkeypatch, (run / "long").read_bytes())
    with pytest.raises(ConfigError, match="^stdin, line 3 has 41"):
        generate.main(["--checkpoint", str(run / "run"), "--input", "-", *SEARCH])


def test_long_lines_are_skipped_or_cut_when_asked(run, model, capsys):
    (run / "long").write_text(f"aa1\n{LONG}\naa2\n\n{LONG}\n")
    short = model.translate(["aa1", "aa2"], **OPTIONS)
    assert generated(run, "--too-long", "skip", source="long") == [short[0], "", short[1], "", ""]
    assert (f"2 of 5 inputs were too long and are left out, their output is empty (the first: "
            f"{run / 'long'}, line 2 has 41 tokens") in capsys.readouterr().err
    cut = model.translate("aa1 " * 19, **OPTIONS)
    assert generated(run, "--too-long", "truncate", source="long") == [
        short[0], cut, short[1], "", cut]
    assert "2 of 5 inputs were too long and have been cut" in capsys.readouterr().err
    assert generated(run, "--skip-invalid-size-inputs-valid-test", source="long")[1] == ""
    lines = generated(run, "--too-long", "skip", "--format", "jsonl", source="long")
    assert json.loads(lines[1])["hypotheses"] == [] and "41" in json.loads(lines[1])["skipped"]
    fairseq = generated(run, "--too-long", "skip", "--format", "fairseq", source="long")
    assert [x.split("\t")[0] for x in fairseq if x[0] in "SH"] == [
        "S-0", "H-0", "S-1", "S-2", "H-2", "S-3", "H-3", "S-4"]
    assert model.translate(["aa1", LONG], too_long="skip", **OPTIONS) == [short[0], ""]
    assert model.generate([LONG], too_long="skip", **OPTIONS) == [[]]
    assert model.translate(LONG, too_long="truncate", **OPTIONS) == cut
    with pytest.raises(ConfigError, match="too_long: 'cut' is not one of error, truncate, skip"):
        model.translate("aa1", too_long="cut")


def test_a_prefix_or_constraints_that_have_no_room(model):
    options = {"beam": 2, "max_len_b": 3}
    prefixes = [[5], [5, 6, 7, 8]]
    with pytest.raises(InputError, match="source 1 has a prefix of 4 tokens.*at most 3"):
        model.generate(["aa1", "aa1"], prefixes=prefixes, **options)
    found = model.generate(["aa1", "aa1"], prefixes=prefixes, too_long="truncate", **options)
    assert found[1][0].tokens.tolist() == [5, 6, 7, 2]
    found = model.generate(["aa1", "aa1"], prefixes=prefixes, too_long="skip", **options)
    assert found[1] == [] and found[0][0].tokens[0] == 5
    phrases = [["bb1 bb2 bb3 bb4"], []]
    for too_long in ("error", "truncate"):
        with pytest.raises(InputError, match="source 0 has constraints that have 4 tokens"):
            model.generate(["aa1", "aa1"], constraints=phrases, too_long=too_long, **options)
    assert model.generate(["aa1", "aa1"], constraints=phrases, too_long="skip", **options)[0] == []
    with pytest.raises(InputError, match="source 0 has 20 tokens, but match_source_len"):
        model.generate(["aa1 " * 19], match_source_len=True, beam=2)


def test_interactive_goes_on_after_a_line_it_cannot_decode(run, model, monkeypatch, capsys):
    short = model.translate(["aa1", "aa2"], **OPTIONS)
    type_in(monkeypatch, f"aa1\n{LONG}\naa2\n".encode())
    interactive.main(["--checkpoint", str(run / "run"), *SEARCH])
    captured = capsys.readouterr()
    assert captured.out.split("\n")[:-1] == [short[0], "", short[1]]
    assert "stdin, line 2 has 41 tokens" in captured.err
    assert "1 of 3 lines were left out" in captured.err
    lines = f"aa1\tbb1\n{LONG}\tbb1\naa2\t\tbb1\n\tbb3\naa2\tbb2 bb3 bb4 bb5\naa2\n"
    type_in(monkeypatch, lines.encode())
    interactive.main(["--checkpoint", str(run / "run"), "--beam", "2", "--max-len-b", "3",
                      "--constraints", "--buffer-size", "6"])
    captured = capsys.readouterr()
    out = captured.out.split("\n")[:-1]
    assert len(out) == 6 and "bb1" in out[0] and out[1:5] == [""] * 4 and out[5]
    for number, what in ((2, "has 41"), (3, "a constraint between"), (4, "begins with a tab"),
                         (5, "has constraints that have 4 tokens")):
        assert any(f"stdin, line {number}" in x and what in x for x in captured.err.split("\n"))


def test_long_sentences_of_a_data_folder(run, capsys):
    """fairseq leaves out pairs with a long side; text keeps every line."""
    folder = write_data(run / "longs")
    rows = [([5, 6, 2], [5, 2]), ([5] * 40 + [2], [5, 2]), ([7, 2], [6] * 40 + [2])]
    for side, lang in enumerate(("aa", "bb")):
        with IndexedWriter(folder / f"test.aa-bb.{lang}", dtype=np.dtype(np.uint16)) as out:
            for row in rows:
                out.append(np.array(row[side]))
    arguments = ["--checkpoint", str(run / "run"), "--data", str(folder), *SEARCH]
    with pytest.raises(ConfigError, match=r"longs, test, sentence 2 has 41 tokens.*--too-long"):
        generate.main(arguments)
    with pytest.raises(ConfigError, match="sentence 2 has a source of 41 tokens"):
        generate.main([*arguments, "--score-reference", "--format", "fairseq"])
    capsys.readouterr()
    generate.main([*arguments, "--too-long", "skip"])
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] and not lines[1] and lines[2]
    for more in ((), ("--score-reference",)):
        generate.main([*arguments, "--skip-invalid-size-inputs-valid-test", "--format", "fairseq",
                       *more])
        out = capsys.readouterr().out
        assert [x for x in out.split("\n") if x[:2] == "S-"] == ["S-0\taa1 aa2"]


# ---- what a line is ----

ENDS = "aa1\raa2\r\naa3\x0caa4\x0baa5\u0085aa6\u2028aa7\x1caa8\n\raa9\r\r\naa1".encode()
LINES = ["aa1", "aa2", "aa3\x0caa4\x0baa5\u0085aa6\u2028aa7\x1caa8", "", "aa9", "", "aa1"]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_a_stream_has_the_lines_of_a_file(tmp_path, monkeypatch, piece):
    (tmp_path / "text").write_bytes(ENDS)
    assert sources.read_text(str(tmp_path / "text")) == LINES

    file = io.BytesIO(ENDS)
    pieces = types.SimpleNamespace(read1=lambda size: file.read(piece))
    assert list(sources.stream_lines(pieces, name="stdin")) == LINES
    type_in(monkeypatch, ENDS)
    assert sources.read_text("-") == LINES


def test_a_line_is_there_as_soon_as_it_ends():
    """A program at the other end of the pipe waits for its answer before it goes on."""
    parts = [b"one\r", b"\ntwo\n", b"thr", b"ee\r", b""]
    asked = []
    stream = sources.stream_lines(
        types.SimpleNamespace(read1=lambda size: asked.append(1) or parts[len(asked) - 1]),
        name="stdin")
    assert [(next(stream), len(asked)) for _ in range(3)] == [("one", 1), ("two", 2), ("three", 4)]


def test_lines_are_the_same_in_files_and_pipes(run, model, monkeypatch, capsys):
    (run / "ends").write_bytes(ENDS)
    expected = model.translate(LINES, **OPTIONS)
    assert generated(run, source="ends") == expected
    for verb in (generate, interactive):
        for path in ("-", str(run / "ends")):
            type_in(monkeypatch, ENDS)
            capsys.readouterr()
            verb.main(["--checkpoint", str(run / "run"), "--input", path, *SEARCH])
            assert capsys.readouterr().out.split("\n")[:-1] == expected
    (run / "same").write_bytes("\n".join(LINES).encode() + b"\n")
    outputs = []
    for sys_path, ref in (("ends", "same"), ("-", "same"), ("same", "-"), ("same", "ends")):
        type_in(monkeypatch, ENDS)
        score.main(["--sys", sys_path if sys_path == "-" else str(run / sys_path),
                    "--ref", ref if ref == "-" else str(run / ref)])
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1 and "BLEU4 = 100.00" in outputs[0]


def test_stdin_is_utf8_whatever_the_locale(run, monkeypatch, capsys):
    type_in(monkeypatch, "aa1 \u00fc\naa2 \xe4".encode("utf-8") + b"\nbad \xff\n")
    with pytest.raises(sources.SourceError, match=r"stdin: line 3 is not UTF-8 \(byte 0xff\)"):
        generate.main(["--checkpoint", str(run / "run"), "--input", "-", *SEARCH])
    type_in(monkeypatch, b"aa1\nbad \xff\n")
    with pytest.raises(sources.SourceError, match="stdin: line 2 is not UTF-8"):
        interactive.main(["--checkpoint", str(run / "run"), *SEARCH])
    assert capsys.readouterr().out.count("\n") == 1  # the line before it has been answered
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    type_in(monkeypatch, "\u00fc\n".encode())
    monkeypatch.setattr(sys, "stdout", out)
    generate.main(["--checkpoint", str(run / "run"), "--input", "-", "--replace-unk",
                   "--format", "jsonl", *SEARCH])
    out.flush()
    assert json.loads(out.buffer.getvalue().decode("utf-8"))["source"] == "\u00fc"


# ---- tokenised once ----


class Counting(tokenizers.WhitespaceTokenizer):
    """Remembers what it was asked for."""

    def __init__(self):
        self.seen = []

    def encode(self, text: str) -> str:
        self.seen.append(text)
        return super().encode(text)


@pytest.fixture
def counted(model, monkeypatch):
    import dataclasses

    from seqjax import hub

    source, target = Counting(), Counting()
    task = dataclasses.replace(model.task, source_tokenizer=source, target_tokenizer=target)
    counting = dataclasses.replace(model, task=task)
    monkeypatch.setattr(hub, "load", lambda *_, **__: counting)
    return counting, source.seen, target.seen


@pytest.mark.parametrize("more", [
    [], ["--format", "fairseq"], ["--replace-unk"], ["--replace-unk", "--format", "fairseq"],
    ["--format", "jsonl", "--print-alignment"],
])
@pytest.mark.parametrize("verb", [generate, interactive])
def test_every_line_is_tokenised_once(run, counted, more, verb):
    if verb is interactive and "jsonl" in more:
        pytest.skip("generate's")
    _, seen, _ = counted
    lines = ["aa1 aa2", "aa3 what", "aa4"]
    (run / "in").write_text("\n".join(lines) + "\n")
    arguments = ["--checkpoint", str(run / "run"), "--input", str(run / "in"), *SEARCH, *more]
    if verb is generate:
        arguments += ["--output", str(run / "once")]
    verb.main(arguments)
    assert sorted(seen) == sorted(lines)


def test_phrases_are_tokenised_once(run, counted):
    _, seen, phrases = counted
    (run / "in").write_text("aa1\tbb1\naa2\tbb2\tbb3\n")
    for verb, more in ((generate, ["--output", str(run / "once")]), (interactive, [])):
        seen.clear(), phrases.clear()
        verb.main(["--checkpoint", str(run / "run"), "--input", str(run / "in"), *SEARCH,
                   "--constraints", "--format", "fairseq", *more])
        assert seen == ["aa1", "aa2"] and phrases == ["bb1", "bb2", "bb3"]


def test_python_tokenises_once(counted):
    model, seen, _ = counted
    model.translate(["aa1", "what aa2"], replace_unk=True, alignment="hard", **OPTIONS)
    model.score(["aa3"], ["bb1"], alignment="hard")
    assert seen == ["aa1", "what aa2", "aa3"]
