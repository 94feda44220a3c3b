"""fairseq's flags on our command lines, and the line that says what was loaded."""

from __future__ import annotations

import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import write_data

import seqjax
from seqjax import convert, evaluate, generate, interactive
from seqjax.config import ConfigError
from seqjax.interop.fairseq import flags as fairseq_flags

SEARCH = ["--beam", "2", "--max-len-b", "12"]
VERBS = {"G": generate, "I": interactive, "VE": evaluate}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("flags")
    data = write_data(root / "data")
    write_checkpoint(root / "run", data)
    (root / "in").write_text("aa1 aa2\naa3\n")
    convert.main([str(root / "run"), str(root / "model.pt")])
    return root


def base(run, verb):
    return {"G": ["--checkpoint", str(run / "run"), "--data", str(run / "data")],
            "I": ["--checkpoint", str(run / "run"), "--input", str(run / "in")],
            "VE": ["--checkpoint", str(run / "run"), "--data", str(run / "data")]}[verb]


def value_of(flag: fairseq_flags.Flag) -> str:
    """A value that is not fairseq's default."""
    return {"--task": "translation", "--source-lang": "aa", "--target-lang": "bb",
            "--model-overrides": "{}", "--constraints": "unordered", "--scoring": "chrf",
            "--sample-break-mode": "eos", "--print-alignment": "soft", "--batch-size": "1",
            "--path": "x.pt"}.get(flag.names[0], "7")


@pytest.mark.parametrize("command", VERBS)
def test_every_flag_of_the_command_is_taken_or_explained(run, command, capsys):
    """No flag is unrecognised, and none is taken without a word: either the verb has it in
    its own help, or one line says why it is not needed, or what to do instead."""
    verb = VERBS[command]
    with pytest.raises(SystemExit):
        verb.parse(["--help"])
    own = " ".join(capsys.readouterr().out.split())  # lines are broken anywhere
    unexplained = []
    for flag in fairseq_flags.table():
        if not set(command) & set(flag.commands):
            continue
        for name in flag.names:
            words = [name] if flag.kind in ("switch", "off") else [name, value_of(flag)]
            status = 0
            try:
                verb.parse([*base(run, command), *words])
            except SystemExit as stop:
                status = stop.code
            said = capsys.readouterr().err
            last = said.strip().split("\n")[-1]
            assert "unrecognized" not in said, said
            if status == 0 and f"note: {name}" not in said and f"{name} " not in own + " ":
                if f"{name}," not in own and f"{name}]" not in own:
                    unexplained.append(name)
            if status:
                assert "error: " in last and len(last) > len(name) + 40, last
    assert not [n for n in unexplained if n not in (
        "--memory-efficient-fp16", "--memory-efficient-bf16", "--amp", "--gen-subset")]


USUAL = ["-s", "aa", "-t", "bb", "--quiet", "--fp16", "--task", "translation",
         "--skip-invalid-size-inputs-valid-test"]


def test_the_usual_flags(run, capsys):
    """`fairseq-generate data-bin --path ... -s -t --quiet --fp16 ...` as it is written."""
    generate.main([str(run / "data"), "--path", str(run / "model.pt"), "--gen-subset", "valid",
                   *SEARCH, *USUAL, "--format", "fairseq", "--remove-bpe", "--max-sentences", "4"])
    captured = capsys.readouterr()
    assert captured.out.startswith("Generate valid with beam=2: BLEU4 = ")
    assert captured.out.count("\n") == 1
    assert "note: --fp16: matrix products are in bfloat16 on GPU and TPU" in captured.err
    interactive.main([str(run / "data"), "--path", str(run / "model.pt"), "--input",
                      str(run / "in"), *SEARCH, *USUAL])
    assert capsys.readouterr().out.count("\n") == 2
    evaluate.main([str(run / "data"), "--path", str(run / "model.pt"), "--valid-subset", "valid",
                   *USUAL])
    captured = capsys.readouterr()
    assert captured.out.startswith("valid | loss") and "Evaluated" not in captured.err


@pytest.mark.parametrize("more, message", [
    (["-s", "bb"], "-s bb: .*run translates from aa to bb"),
    (["-t", "xx"], "-t xx: .*run translates from aa to bb"),
    (["--task", "language_modeling"], "--task language_modeling: .*is a model of translation"),
    (["--bpe-codes", "codes"], "for fairseq's .pt files"),
])
@pytest.mark.parametrize("verb", VERBS)
def test_flags_that_contradict_the_model(run, verb, more, message):
    with pytest.raises(ConfigError, match=message):
        VERBS[verb].main([*base(run, verb), *more])


@pytest.mark.parametrize("more, message", [
    (["--num-shards", "4"], "--num-shards 4: not supported: decode parts"),
    (["--user-dir", "x"], "--user-dir x: not supported: name your own parts"),
    (["--max-source-positions", "99"], "--model-overrides"),
    (["--retain-dropout"], "decoding is without dropout"),
    (["--lr", "0.1"], "--lr.*: a flag of fairseq's; here it is of training.*--config.train.lr"),
    (["--lr=0.1"], "--lr=0.1: a flag of fairseq's; here it is of training"),
    (["--arch=transformer"], "--arch=transformer: a flag of fairseq's; here.*of training"),
    (["--buffer-size", "3"], "a flag of fairseq's; here it is --buffer-size of .*interactive"),
    (["--beem", "3"], "--beem 3: unknown. Did you mean --beam=3?"),
    (["--config.train.lr=1"], "keys of the configuration are for training"),
    (["text.en"], "'text.en': give text as --input FILE"),
    (["--too-long", "truncate", "--skip-invalid-size-inputs-valid-test"], "contradict"),
    (["--bf16", "--dtype", "float32"], "contradict"),
    (["--results-path", "x", "--output", "y"], "two places"),
])
def test_flags_that_are_refused(run, more, message, capsys):
    import re

    with pytest.raises(SystemExit) as stop:
        generate.parse([*base(run, "G"), *more])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and re.search(message, error), error


def test_flags_that_are_not_needed_are_said_once(run, capsys):
    args = generate.parse([*base(run, "G"), "--num-workers", "4", "--log-format", "simple",
                           "--save-dir", "x", "--num-shards", "1", "--max-sentences", "3"])
    notes = capsys.readouterr().err.strip().split("\n")
    assert [n.split(":")[1].split()[0] for n in notes] == [
        "--num-workers", "--log-format", "--save-dir", "--num-shards"]
    assert args.batch_size == 3


@pytest.mark.parametrize(("given", "message"), [
    ("--generation.beam=1", "--generation.beam=1: did you mean --beam=1?\n"),
    ("--config.generation.max_len_b=3", "did you mean --max-len-b=3?\n"),
    ("--generation.no_such_key=1", "there is no key 'generation.no_such_key'"),
])
def test_keys_of_the_search_are_flags(run, capsys, given, message):
    for verb in ("G", "I"):
        with pytest.raises(SystemExit):
            VERBS[verb].parse([*base(run, verb), given])
        assert message in capsys.readouterr().err


def test_results_path(run):
    generate.main([str(run / "data"), "--path", str(run / "model.pt"), "--gen-subset", "valid",
                   *SEARCH, "--results-path", str(run / "results"), "--format", "fairseq"])
    assert (run / "results" / "generate-valid.txt").read_text().count("H-") == 8


def test_codes_of_a_pt(run, tmp_path):
    """Raw text and the codes that are not beside the checkpoint."""
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\na a\naa 1</w>\n")
    pt = str(run / "model.pt")
    model = seqjax.load(pt, data=run / "data", quiet=True,
                        tokenizer_options={"bpe_codes": str(codes)})
    assert model.task.source_tokenizer.encode("aa1 ab") == "aa1 a@@ b"
    with pytest.raises(ConfigError, match="bpe_codes: .*nowhere: no such file"):
        seqjax.load(pt, data=run / "data", tokenizer_options={"bpe_codes": "nowhere"})
    with pytest.raises(ConfigError, match="'codes' is not one of bpe_codes"):
        seqjax.load(pt, data=run / "data", tokenizer_options={"codes": "x"})


# ---- what was loaded ----


def several(run):
    """A work folder whose second checkpoint was the best."""
    folder = run / "several"
    if folder.exists():
        return folder
    write_checkpoint(folder, run / "data", generation={"beam": 3})
    import json
    import shutil

    first = folder / "checkpoints" / "1"
    for step, loss in ((1, 3.5), (2, 3.25), (3, 3.75)):
        place = folder / "checkpoints" / str(step)
        if step > 1:
            shutil.copytree(first, place)
        record = json.loads((place / "about" / "record.json").read_text())
        record |= {"step": step, "metric": loss, "metric_name": "loss", "checksums": 0}
        for file in (place / "about").glob("checksums.*.json"):
            file.unlink()  # they are of the record too
        (place / "about" / "record.json").write_text(json.dumps(record))
    return folder


def test_one_line_says_what_was_loaded(run, capsys):
    folder = several(run)
    model = seqjax.load(folder)
    line = capsys.readouterr().err
    assert line == model.describe() + "\n"
    for part in (f"{folder}: update 2, best by loss (3.25) of 3 checkpoints",
                 "transformer aa-bb, ", "beam 3 (of the checkpoint)",
                 "outputs of at most 12 tokens (of the checkpoint)",
                 "at most 1024 source and 1024 target tokens", "; cpu, float32"):
        assert part in line, line
    assert repr(model) == f"Translator({model.describe()})" and "\n" not in repr(model)
    assert "array" not in repr(model)
    last = seqjax.load(folder, which="last", quiet=True)
    assert "update 3, the last of 3 checkpoints, loss 3.75" in repr(last)
    named = seqjax.load(folder / "checkpoints" / "1", quiet=True)
    assert "checkpoints/1: update 1, loss 3.5;" in repr(named)
    assert not capsys.readouterr().err
    untold = seqjax.load(run / "run", quiet=True)
    assert "update 1, the last of 1 checkpoint, as none was validated" in repr(untold)
    assert "beam 5 (as asked)" in untold.describe(beam=5)
    assert "outputs of at most 1.5 x source + 12 tokens (as asked)" in untold.describe(
        max_len_a=1.5)


def test_verbs_say_it_and_stdout_stays_clean(run, capsys):
    folder = str(several(run))
    generate.main(["--checkpoint", folder, "--input", str(run / "in"), "--beam", "2"])
    captured = capsys.readouterr()
    assert "update 2, best by loss (3.25) of 3" in captured.err
    assert "beam 2 (as asked), outputs of at most 12 tokens (of the checkpoint)" in captured.err
    assert captured.out.count("\n") == 2 and captured.err.count("update 2") == 1
    interactive.main(["--checkpoint", folder, "--input", str(run / "in"), *SEARCH])
    captured = capsys.readouterr()
    assert captured.err.count("best by loss") == 1 and captured.out.count("\n") == 2
    evaluate.main(["--checkpoint", folder, "--data", str(run / "data"), "--subset", "valid"])
    captured = capsys.readouterr()
    assert captured.err.count("best by loss") == 1 and captured.out.count("\n") == 1
    generate.main(["--checkpoint", folder, "--input", str(run / "in"), *SEARCH, "--quiet"])
    assert not capsys.readouterr().err


def test_of_ensembles_and_of_a_pt(run):
    folder = several(run)
    both = seqjax.load([folder, run / "model.pt"], data=run / "data", quiet=True)
    line = repr(both)
    assert f"{folder}: update 2" in line and "model.pt: " in line and "2 models" in line
    assert "a .pt of fairseq" in line and "array" not in line
    decoder = both.decoder(**{"beam": 2})
    prepared = decoder.prepare(both.params)
    assert "array" not in repr(prepared).lower() and "array" not in repr(decoder).lower()


def test_a_pt_says_its_update(monkeypatch):
    from seqjax.hub import about

    checkpoint = type("Checkpoint", (), {
        "extra": {"optimizer_history": [{"num_updates": 10}, {"num_updates": 1200}],
                  "extra_state": {"val_loss": 4.25, "best": 4.25}},
        "fairseq": type("Config", (), {"get": staticmethod(lambda group, key: "ppl")})})
    origin = about.origin_of_pt("model.pt", checkpoint)
    assert str(origin) == (
        "model.pt: update 1200, a .pt of fairseq, valid ppl 4.25, the best so far")


def test_loaded_files_show_no_weights(run):
    from seqjax.interop.fairseq import files as fairseq_files

    found = fairseq_files.read_model(run / "model.pt", data=run / "data")
    for value in (found, found.checkpoint):
        assert "array(" not in repr(value)
