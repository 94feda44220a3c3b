"""The command line before anything is computed: configuration files of every kind, help, the
`seqjax` command, completion, and arguments that are not known."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

import pytest

import seqjax
from seqjax import __main__ as command
from seqjax import cli, config, hub, train
from seqjax.config import ConfigError, yaml_text
from seqjax.interop.fairseq import flags as fairseq_flags

RAW = {"task": {"data": "data-bin", "source_lang": "no", "target_lang": "de"},
       "model": {"arch": "transformer_iwslt_de_en", "dropout": 0.25},
       "train": {"lr": [5e-4, 1e-3], "max_update": 7}, "optimizer": {"adam_betas": [0.9, 0.98]},
       "valid": {"decode": False}, "init_from": None}


@pytest.fixture
def printed(capsys):
    """What `train` prints for these arguments."""

    def run(*arguments):
        train.main(list(arguments))
        return capsys.readouterr().out

    return run


def status_of(main, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main(arguments))
    return stopped.value.code, capsys.readouterr().err


# ---- files ----


def test_one_configuration_in_every_kind_of_file(tmp_path, printed):
    (tmp_path / "a.py").write_text(f"def get_config():\n    return {RAW!r}\n")
    (tmp_path / "a.json").write_text(json.dumps(RAW))
    (tmp_path / "a.yaml").write_text(yaml_text.dump(RAW))
    (tmp_path / "b.yml").write_text(
        "# as people write it\ntask: {data: data-bin, source_lang: no, target_lang: de}\n"
        "model:\n  arch: transformer_iwslt_de_en\n  dropout: .25\ntrain:\n  lr: [5e-4, 1e-3]\n"
        "  max_update: 7\noptimizer:\n  adam_betas: (0.9, 0.98)\nvalid:\n  decode: false\n"
        "init_from: null\n")
    found = [hub.resolve(config.load_file(str(tmp_path / name)))
             for name in ("a.py", "a.json", "a.yaml", "b.yml")]
    assert found[0].task.source_lang == "no" and found[0].train.lr == (5e-4, 1e-3)
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_what_is_printed_is_read_back(tmp_path, printed, kind):
    (tmp_path / "a.json").write_text(json.dumps(RAW))
    text = printed("--config", str(tmp_path / "a.json"), "--print-config", kind,
                   "--config.train.max_epoch=3", "--config.task.source_lang=on")
    (tmp_path / f"b.{kind}").write_text(text)
    again = printed("--config", str(tmp_path / f"b.{kind}"), "--print-config", kind)
    assert again == text
    read = hub.resolve(config.load_file(str(tmp_path / f"b.{kind}")))
    wanted = {**RAW, "train": {**RAW["train"], "max_epoch": 3},
              "task": {**RAW["task"], "source_lang": "on"}}
    assert read == hub.resolve(wanted)


@pytest.mark.parametrize("recipe", [
    "quickstart", "iwslt14_de_en", "wmt14_en_de", "roberta_base", "roberta_glue", "bart_base"])
def test_recipes_are_printed_and_read_back(tmp_path, printed, recipe):
    file = f"configs/{recipe}.py"
    for kind in ("json", "yaml"):
        new = tmp_path / f"c.{kind}"
        new.write_text(printed("--config", file, "--print-config", kind))
        assert hub.resolve(config.load_file(str(new))) == hub.resolve(config.load_file(file))


def test_overrides_on_top_of_a_runs_own_configuration(tmp_path, printed):
    """Another architecture is not hidden by the keys that the file's own gave."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config.to_plain(hub.resolve(RAW))))
    found = json.loads(printed(
        "--config", str(file), "--print-config", "--config.train.lr=1e-4",
        "--config.model.arch=transformer_wmt_en_de_big", "--config.loss.name=cross_entropy"))
    wanted = config.to_plain(hub.resolve({
        **RAW, "train": {"lr": 1e-4, "max_update": 7}, "loss": {"name": "cross_entropy"},
        "model": {"arch": "transformer_wmt_en_de_big", "dropout": 0.25}}))
    assert found == wanted and found["model"]["encoder_embed_dim"] == 1024
    other = json.loads(printed("--config", str(file), "--print-config",
                               "--config.model.arch=lstm"))
    assert other["model"]["name"] == "lstm" and other["model"]["dropout"] == 0.25


BROKEN = [
    ("a.yaml", "train:\n  lr: 1\n bad: 3\n", r"a.yaml, line 3: "),
    ("a.yaml", "train: {lr: 1}\ntrain: {lr: 2}\n", r"a.yaml, line 2: 'train' is there twice"),
    ("a.yaml", "a: !!python/object:builtins.dict {}\n", r"a.yaml, line 1: could not determine"),
    ("a.yaml", "", "holds no configuration"),
    ("a.yaml", "- 1\n- 2\n", r"expected sections with keys, found list"),
    ("a.yaml", "3: 4\n", "has a key 3, which is no text"),
    ("a.json", '{\n "train": {"lr": 1,}}', r"a.json, line 2: .*column"),
    ("a.json", '{"seed": 1, "seed": 2}', r"'seed' is there twice"),
    ("a.json", "3", "expected sections with keys, found int '3'"),
    ("a.json", b"\xff\xfe{}", "not text in UTF-8"),
    ("a.py", "x = (\n", r"a.py, line 1: '\(' was never closed"),
    ("a.py", "import no_such_module\n", r"a.py, line 1: ModuleNotFoundError"),
    ("a.py", "def get_config():\n    return undefined\n", r"a.py, line 2: NameError"),
    ("a.py", "def get_config():\n    return 3\n", "expected sections with keys, found int"),
    ("a.py", "def get_config(size):\n    return {}\n", "missing 1 required positional argument"),
    ("a.py", "x = 1\n", r"defines no get_config\(\)"),
    ("a.txt", "train", r"a.txt: expected a Python file with get_config\(\), JSON .* or YAML"),
    ("a.jsonl", "{}", "expected a Python file"),
    ("noext", "{}", "expected a Python file"),
    ("a.pt", "", r"checkpoint of fairseq's.*seqjax.convert args .*a.pt > a.py"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_files_that_are_no_configuration(tmp_path, name, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        config.load_file(str(tmp_path / name))


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        config.load_file(str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match="is a folder, expected a Python file"):
        config.load_file(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="its own configuration: --config .*config.json"):
        config.load_file(str(tmp_path))
    with pytest.raises(ConfigError, match="only a Python file takes an argument"):
        config.load_file(f"{tmp_path / 'config.json'}:3")


def test_a_colon_in_a_files_name_and_a_byte_order_mark(tmp_path):
    (tmp_path / "a:b.json").write_bytes(b"\xef\xbb\xbf" + b'{"seed": 4}')
    assert config.load_file(str(tmp_path / "a:b.json")) == {"seed": 4}


@pytest.mark.parametrize(("raw", "message"), [
    ({"lr": 1}, r"config.lr: unknown key. Did you mean config.train.lr\?"),
    ({"max_updates": 1}, r"config.max_updates: .* Did you mean config.train.max_update\?"),
    ({"train": {"dropout": 1}}, r"config.train.dropout: .* Did you mean config.model.dropout\?"),
    ({"model": {"seed": 1}}, r"config.model.seed: .* Did you mean .*config.seed"),
    ({"train": {"max_updates": 1}}, r"Did you mean 'max_update'\?"),
])
def test_keys_in_the_wrong_place(raw, message):
    with pytest.raises(ConfigError, match=message):
        hub.resolve(raw)


# ---- help ----


def test_help_on_a_section_a_family_a_key_or_a_word(printed):
    assert "[optimizer]" in (text := printed("--help-config", "optimizer"))
    assert "[train]" not in text and "optimizer.adam_betas = (0.9, 0.98)" in text
    lstm = printed("--help-config", "lstm")
    assert "[model, with name=lstm]" in lstm and "model.decoder_hidden_size" in lstm
    assert "[model, with name=lstm_lm]" not in lstm and "[train]" not in lstm
    assert printed("--help-config", "train.lr") == printed("--help-config", "--config.train.lr") \
        == printed("--help-config", "lr")
    words = printed("--help-config", "warmup").splitlines()
    assert [w.split()[0] for w in words if w.startswith("  ") and " = " in w] == [
        "optimizer.warmup_init", "schedule.warmup_updates", "schedule.warmup_init_lr"]
    both = printed("--help-config", "lr", "mesh")
    assert "train.lr" in both and "mesh.fsdp" in both
    everything = printed("--help-config")
    assert all(line in everything for line in both.splitlines())


def test_help_on_what_is_not_there(capsys):
    code, err = status_of(train.main, ["--help-config", "max_updtae"], capsys)
    assert code == 2 and "Did you mean 'max_update'?" in err and err.count("\n") == 1
    code, err = status_of(train.main, ["--help-config", "xyzzy"], capsys)
    assert code == 2 and "no such section, key or word" in err


# ---- the seqjax command ----


def test_the_verbs_are_listed(capsys):
    assert status_of(command.dispatch, [], capsys)[0] == 0
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    verbs = [path.stem for path in pathlib.Path(seqjax.__file__).parent.glob("[a-z]*.py")
             if "__main__" in path.read_text()]
    assert set(verbs) == set(command.VERBS)
    for verb in verbs:
        assert f"\n  {verb} " in out


def test_version_and_installed_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"seqjax {seqjax.__version__}\n"
    with open("pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["scripts"] == {"seqjax": "seqjax.__main__:main"}


@pytest.mark.parametrize(("verb", "message"), [
    ("trian", "Did you mean 'train'?"), ("fairseq-train", "here it is train"),
    ("validate", "here it is evaluate"), ("eval-lm", "here it is evaluate"),
    ("fairseq-eval-lm", "here it is evaluate"), ("xyz", "Known: average"),
])
def test_verbs_that_are_none(capsys, verb, message):
    code, err = status_of(command.dispatch, [verb], capsys)
    assert code == 2 and err.startswith(f"error: '{verb}' is not a verb") and message in err


def test_a_verb_runs_with_its_status(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("seqjax.cli.parser.program", cli.parser.program)
    for name in ("hyp", "ref"):
        (tmp_path / name).write_text("a b c d e\n")
    files = ["--sys", str(tmp_path / "hyp"), "--ref", str(tmp_path / "ref")]
    assert status_of(command.dispatch, ["score", *files], capsys)[0] == 0
    assert status_of(command.dispatch, ["score", "--sys", "nowhere", *files[2:]], capsys)[0] == 2
    with pytest.raises(SystemExit) as stopped:
        command.dispatch(["help", "score"])
    assert stopped.value.code == 0 and "usage: seqjax score" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [
    [], ["--version"], ["--help"], ["trian"], ["train", "--help"], ["train", "--help-config"],
    ["train", "--help-config", "lstm"], ["completion", "fish"], ["train", "--lr", "1"],
    ["train", "--config", "configs/quickstart.py", "--print-config"],
])
def test_nothing_of_this_imports_jax(arguments):
    code = ("import sys\nfrom seqjax import __main__\ntry: __main__.main(sys.argv[1:])\n"
            "except SystemExit: pass\nassert 'jax' not in sys.modules, 'jax'\n"
            "assert 'tensorflow' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- completion ----


def completions(line, tmp_path):
    """What a shell is told of a line with the cursor at its end."""
    answer = tmp_path / "answer"
    shell = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash",
             "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
             "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
             "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([sys.executable, "-m", "seqjax"], env=os.environ | shell,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in answer.read_text().split("\n")}


@pytest.mark.parametrize(("line", "wanted"), [
    ("seqjax tr", {"train"}),
    ("seqjax completion ", {"bash", "zsh", "fish"}),
    ("seqjax help ge", {"generate"}),
    ("seqjax train --w", {"--workdir"}),
    ("seqjax train --config.valid.dec",
     {"--config.valid.decode", "--config.valid.decode_sentences"}),
    ("seqjax train --config.schedule.name ", {"inverse_sqrt", "polynomial_decay", "fixed",
                                              "cosine", "tri_stage"}),
    ("seqjax train --config.model.name=tr", {"transformer", "transformer_align", "transformer_lm"}),
    ("seqjax generate --checkpoint x --which ", {"best", "last"}),
    ("seqjax preprocess --joined", {"--joined-dictionary"}),
    ("seqjax score --metric t", {"ter"}),
    ("seqjax evaluate --output-word", {"--output-word-probs", "--output-word-stats"}),
])
def test_completion(line, wanted, tmp_path):
    assert completions(line, tmp_path) - {"-h", "--help"} == wanted


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(tmp_path):
    """The one line of the guide, and what bash makes of it."""
    program = tmp_path / "seqjax"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m seqjax "$@"\n')
    program.chmod(0o755)
    script = """eval "$(seqjax completion bash)"
COMP_WORDS=(seqjax train --config.train.max_u) COMP_CWORD=2 COMP_TYPE=9
COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}
_python_argcomplete seqjax --config.train.max_u train
echo "${COMPREPLY[@]}"
complete -p seqjax"""
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=os.environ | {"PATH": path},
                          capture_output=True, text=True)
    assert done.stdout.splitlines()[0].strip() == "--config.train.max_update", done.stderr
    assert "_python_argcomplete seqjax" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, capsys):
    assert command.dispatch(["completion", shell]) == 0
    assert "_ARGCOMPLETE" in (text := capsys.readouterr().out) and "seqjax" in text
    code, err = status_of(command.dispatch, ["completion", "csh"], capsys)
    assert code == 2 and "bash, zsh, fish" in err


# ---- what was meant ----

TO_TRAIN = [
    (["--train.lr=1"], "--train.lr=1: did you mean --config.train.lr=1?"),
    (["--train.lr", "1"], "--train.lr 1: did you mean --config.train.lr=1?"),
    (["train.lr=1"], "train.lr=1: did you mean --config.train.lr=1?"),
    (["-config.train.lr=1"], "did you mean --config.train.lr=1?"),
    (["-config.lr=1"], "did you mean --config.train.lr=1?"),
    (["--trian.lr=1"], "--trian.lr=1: unknown"),
    (["--batching.max_token=4"], "did you mean --config.batching.max_tokens=4?"),
    (["--lr", "1"], "--lr 1: a flag of fairseq's; here --config.train.lr=1"),
    (["--max-update", "100"], "here --config.train.max_update=100"),
    (["--max_update=100"], "here --config.train.max_update=100"),
    (["--arch", "transformer"], "here --config.model.arch=transformer"),
    (["--max-tokens", "4096"], "here --config.batching.max_tokens=4096"),
    (["--share-all-embeddings"], "here --config.model.share_all_embeddings=True"),
    (["--fp16"], "here --config.train.compute_dtype=bfloat16"),
    (["--save-dir", "x"], "here --workdir=x"),
    (["--user-dir", "x"], "a flag of fairseq's that is not supported"),
    (["--cpu"], "a flag of fairseq's that is not needed; leave it out"),
    (["--srcdict", "x"], "here it is --srcdict of python -m seqjax.preprocess"),
    (["--pack-length", "3"], "Did you mean --config.batching.pack_length=3?"),
    (["--wrokdir", "x"], "Did you mean --workdir=x?"),
    (["--config.lr", "1"], "config.lr: unknown key. Did you mean config.train.lr?"),
    (["tests"], "tests: unexpected. Did you mean --config.task.data=tests?"),
    (["--lr", "1", "--arch", "lstm"], "python -m seqjax.convert args 'fairseq-train ...'"),
]


@pytest.mark.parametrize(("arguments", "message"), TO_TRAIN)
def test_what_was_meant_in_training(arguments, message, tmp_path, capsys):
    given = ["--config", "configs/quickstart.py", "--workdir", str(tmp_path / "run"), *arguments]
    code, err = status_of(train.main, given, capsys)
    assert code == 2 and message in err and "usage" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("verb", "arguments", "message"), [
    ("generate", ["--lr", "1"], "here it is of training: python -m seqjax.train --config.train.lr"),
    ("generate", ["--train.lr=3"], "keys of the configuration are for training"),
    ("generate", ["--generation.beam=3"], "did you mean --beam=3?"),
    ("generate", ["--beem", "3"], "--beem 3: unknown."),
    ("interactive", ["--max-update", "3"], "--config.train.max_update=3"),
    ("evaluate", ["--arch", "x"], "--config.model.arch=x"),
    ("score", ["--sys", "a", "--lr", "1"], "--config.train.lr=1"),
    ("average", ["--inputs", "a", "--output", "b", "--lr", "1"], "--config.train.lr=1"),
    ("average", ["--num_epoch_checkpoints", "3"], "Did you mean --num-epoch-checkpoints=3?"),
    ("convert", ["a.pt", "b", "--lr", "1"], "--config.train.lr=1"),
    ("preprocess", ["--max-tokens", "3"], "--config.batching.max_tokens=3"),
    ("preprocess", ["--user-dir", "x"], "not supported"),
    ("preprocess", ["--train.lr=2"], "keys of the configuration are for training"),
])
def test_what_was_meant_elsewhere(verb, arguments, message, capsys):
    code, err = status_of(command.dispatch, [verb, *arguments], capsys)
    assert code == 2 and message in err


def test_every_flag_of_fairseqs_is_explained():
    """In training, each flag of fairseq-train says what it is here, or why it is not."""
    from seqjax.cli import suggestions

    keys = set(suggestions.config_keys())
    flags = ["--config", "--workdir", "--help-config", "--print-config"]
    for row in fairseq_flags.table():
        for name in row.names:
            words = [name] if row.kind in ("switch", "off") else [name, "3"]
            line, = suggestions.explain(words, verb="train", own=flags)
            assert "a flag of fairseq's" in line
            if "--config." in line:
                assert line.partition("--config.")[2].partition("=")[0] in keys, line


def test_overrides_need_values(capsys):
    code, err = status_of(train.main, ["--config", "x", "--workdir", "y", "--config.train.lr"],
                          capsys)
    assert code == 2 and "--config.train.lr: give it a value" in err


def test_the_parsers_usage_names_how_it_was_called(monkeypatch):
    monkeypatch.setattr("seqjax.cli.parser.program", "seqjax ")
    text = io.StringIO()
    cli.Parser(prog="python -m seqjax.score").print_usage(text)
    assert text.getvalue().startswith("usage: seqjax score")
