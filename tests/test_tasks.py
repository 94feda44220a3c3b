"""Every task has all of the contract; tasks and models of a user's own, as docs/extending.md."""

from __future__ import annotations

import inspect
import json
import pathlib
import re
import subprocess
import sys
import typing

import numpy as np
import pytest
import tiny_run
from tiny_checkpoint import write_checkpoint

import seqjax
from seqjax import checkpoints, evaluate, generate, hub, tasks, train
from seqjax.config import ConfigError, import_object
from seqjax.hub.loaded import Loaded
from seqjax.models.protocol import token_source
from seqjax.tasks import protocol

# ---- the contract ----


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_task_has_every_member(name):
    found = tasks.TASKS[name]
    cls = found.load()
    assert found.name == name == found.config().name == cls.Config().name
    assert cls.facade == found.facade
    text = hasattr(cls, "source_vocab") or "source_vocab" in cls.__dataclass_fields__
    wanted = protocol.members(protocol.TextTask if text else protocol.Task)
    assert {"setup", "dataset", "evaluator", "languages"} <= set(wanted)
    fields = set(cls.__dataclass_fields__)
    assert not [m for m in wanted if m not in fields and not hasattr(cls, m)]
    for method in protocol.METHODS:
        compatible(getattr(cls, method), getattr(protocol.Task, method))


def compatible(function, contract) -> None:
    """Whoever calls by the contract may call the function."""
    own, wanted = (inspect.signature(f).parameters for f in (function, contract))
    more = {name for name, p in own.items() if name not in wanted and p.kind == p.KEYWORD_ONLY
            and p.default is not p.empty}  # a `Stateful` model's `extra`
    assert [name for name in own if name not in more] == list(wanted), function
    for name, parameter in wanted.items():
        assert own[name].kind == parameter.kind, (function, name)
        if parameter.default is not parameter.empty:
            assert own[name].default == parameter.default, (function, name)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_task_names_its_facade_and_its_models(name):
    found = tasks.TASKS[name]
    facade = import_object(found.facade, "facade")
    classes = (facade,) if inspect.isclass(facade) else typing.get_args(  # one of these
        typing.get_type_hints(facade)["return"])
    assert classes and all(issubclass(cls, Loaded) for cls in classes)
    models = import_object(found.load().model_protocol, "model_protocol")
    assert "init" in protocol.members(models)
    for cls in classes:
        names = set(inspect.signature(cls.evaluate).parameters) - {
            *inspect.signature(Loaded.evaluate).parameters}
        assert names == set(cls.evaluation_options)


def test_every_file_of_a_task_is_registered():
    folder = pathlib.Path(tasks.__file__).parent
    with_entry = {file.stem for file in folder.glob("*.py")
                  if re.search(r"^ENTRY = ", file.read_text(), re.MULTILINE)}
    assert with_entry == set(tasks.PLACES)


# The usual task of a configuration, and fairseq's.
MAY_NAME = {"config/resolving.py", "interop/fairseq/names.py", "tasks/__init__.py",
            "losses/configs.py"}  # there is a loss of the name masked_lm


def test_nobody_asks_which_task_it_is():
    """A task's name stands in its own file; tasks and facades are asked, not recognised."""
    root = pathlib.Path(seqjax.__file__).parent
    asked = re.compile(r"isinstance\([^()]*(Translator|LanguageModel\b|LanguageModelingTask|"
                       r"TranslationTask|Encoder\b)|hasattr\((\w+\.)*(task|model), |"
                       r"getattr\((\w+\.)*task, \"")
    for file in root.rglob("*.py"):
        place, text = str(file.relative_to(root)), file.read_text(encoding="utf-8")
        for name in tasks.TASKS:  # losses of fairseq's are called as tasks are, and a family's
            # table says in which of fairseq's tasks its files were made
            if f'"{name}"' in text and place != f"tasks/{name}.py" and not re.match(
                    r"losses/|models/.*/", place):
                assert place in MAY_NAME, f"{place} knows the task {name}"
        # The task's own checks are what others rely on; models know what kind of model they are.
        if place.partition("/")[0] not in ("generation", "models") and place not in (
                "tasks/protocol.py", "tasks/__init__.py"):
            found = [m[0] for m in asked.finditer(text)]
            assert not found, f"{place}: {found}"


def test_fairseq_names_lead_to_tasks():
    assert tasks.of_fairseq("translation").name == "translation"
    assert tasks.of_fairseq("speech_recognition") is None
    keys = {name: set(e.fairseq.languages) for name, e in tasks.TASKS.items() if e.fairseq}
    for name, languages in keys.items():
        assert languages <= set(tasks.TASKS[name].config.__dataclass_fields__)


def test_a_model_of_another_kind_is_refused(data):
    raw = tiny_run.raw_config(data, model={"name": "transformer_lm"})
    raw["model"] = {"name": "transformer_lm", "decoder_layers": 1, "decoder_embed_dim": 8,
                    "decoder_ffn_embed_dim": 8, "decoder_attention_heads": 2}
    from seqjax.training import parts

    with pytest.raises(ConfigError, match=r"config\.model\.name: 'transformer_lm' has no .*encode"):
        parts.prepare(tiny_run.resolve(raw))


# ---- own objects ----


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_run.write_data(tmp_path_factory.mktemp("tasks") / "data")


@pytest.fixture
def mypackage(tmp_path, repository, monkeypatch):
    """The package of docs/extending.md, on the path."""
    text = (repository / "docs" / "extending.md").read_text(encoding="utf-8")
    folder = tmp_path / "own" / "mypackage"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    blocks = re.findall(r"```python\n# mypackage/(\w+\.py)\n(.*?)```", text, re.DOTALL)
    assert {name for name, _ in blocks} >= {"models.py", "tasks.py"}
    for name, code in blocks:
        (folder / name).write_text(code)
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    for name in [m for m in sys.modules if m.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def test_own_task_and_model_by_the_command_line(mypackage, data, tmp_path, monkeypatch, capsys):
    """Both of the guide's: trained by `python -m`, loaded, decoded and evaluated."""
    config = tiny_run.raw_config(
        data, train={"max_update": 3}, batching={"max_tokens": 256},
        checkpoint={"asynchronous": False},
        valid={"decode": True, "metric": "exact", "every_updates": 2})
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("PYTHONPATH", f"{mypackage.parent}:{tiny_run.__file__.rsplit('/tests/')[0]}")
    done = subprocess.run(
        [sys.executable, "-m", "seqjax.train", "--config", "config.json", "--workdir", "run",
         "--config.task.name=mypackage.tasks:MyTask", "--config.task.ignore_case=true",
         "--config.model.name=mypackage.models:MyModel", "--config.model.my_switch=true"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    valid = tiny_run.metrics(run, "valid")
    assert valid and all(0 <= m["exact"] <= 100 and m["bleu"] >= 0 for m in valid)
    assert "best exact" in done.stdout + done.stderr

    saved = json.loads((run / "config.json").read_text())
    assert saved["task"]["name"] == "mypackage.tasks:MyTask" and saved["task"]["ignore_case"]
    assert saved["model"]["name"] == "mypackage.models:MyModel" and saved["model"]["my_switch"]
    assert checkpoints.read_record(checkpoints.find(run)).maximize

    model = seqjax.load(run, quiet=True)
    assert type(model.task).__name__ == "MyTask" and type(model.models[0]).__name__ == "MyModel"
    assert model.task.config.ignore_case and isinstance(model, hub.Translator)
    (tmp_path / "in").write_text("aa1 aa2\naa3\n")
    generate.main(["--checkpoint", str(run), "--input", str(tmp_path / "in"),
                   "--output", str(tmp_path / "out"), "--beam", "2", "--max-len-b", "5"])
    assert len((tmp_path / "out").read_text().splitlines()) == 2
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(run), "--subset", "valid", "--json"])
    assert json.loads(capsys.readouterr().out)["tokens"] > 8


def test_own_keys_are_described_and_checked(mypackage, data, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(tiny_run.raw_config(data)))
    own = ["--config", str(tmp_path / "config.json"), "--config.task.name=mypackage.tasks:MyTask",
           "--config.model.name=mypackage.models:MyModel"]
    train.main([*own, "--help-config", "ignore_case", "my_switch"])
    text = capsys.readouterr().out
    assert "[task, with name=mypackage.tasks:MyTask]" in text
    assert "task.ignore_case = False\n      Whether `Exactly`" in text
    assert "model.my_switch = False\n      What it switches." in text
    train.main([*own, "--config.task.ignore_case=true", "--print-config"])
    assert json.loads(capsys.readouterr().out)["task"]["ignore_case"] is True
    with pytest.raises(ConfigError, match="ignore_cas.*Did you mean 'ignore_case'"):
        train.main([*own, "--config.task.ignore_cas=true", "--print-config"])


BAD = '''
import dataclasses
from seqjax.models.transformer.config import TransformerConfig
from seqjax.tasks.translation import TranslationConfig

@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfConfig(TransformerConfig):
    name: str = "mypackage.bad:Half"

class Half:
    Config = HalfConfig
    pad, eos, max_source_positions, max_target_positions = 1, 2, 9, 9
    def __init__(self, *, config, **sizes):
        self.config = config

class NoConfig: ...

class NoFacade:
    Config = TranslationConfig

class NoMethods(NoFacade):
    facade = "seqjax.hub.translator:Translator"
    def setup(self, config): ...
'''


def test_what_is_no_model_is_refused_by_its_key(mypackage, data):
    from seqjax.training import parts

    (mypackage / "bad.py").write_text(BAD)
    raw = tiny_run.raw_config(data, batching={"max_tokens": 256})
    for name, message in (("nowhere:X", "cannot import 'nowhere:X'"),
                          ("mypackage.bad:NoConfig", "has no dataclass named Config"),
                          ("mypackage.bad:Half", "has no init, features, prepare, .*encode")):
        changed = {**raw, "model": {**raw["model"], "name": name}}
        with pytest.raises(ConfigError, match=r"config\.model\.name: .*" + message):
            parts.prepare(tiny_run.resolve(changed))


@pytest.mark.parametrize(("name", "message"), [
    ("nowhere.tasks:MyTask", "cannot import 'nowhere.tasks:MyTask'.*PYTHONPATH"),
    ("mypackage.bad:Nothing", "cannot import 'mypackage.bad:Nothing'"),
    ("mypackage.bad:NoConfig", "'mypackage.bad:NoConfig' has no dataclass named Config"),
    ("mypackage.bad:NoFacade", "'mypackage.bad:NoFacade' does not say what seqjax.load gives"),
    ("mypackage.bad:NoMethods", "has no from_assets, assets, .*evaluator"),
    ("translatoin", "'translatoin' is unknown. Did you mean 'translation'"),
])
def test_what_is_no_task_is_refused_by_its_key(mypackage, data, tmp_path, name, message):
    (mypackage / "bad.py").write_text(BAD)
    raw = tiny_run.raw_config(data)
    # The base config's `name` is a Literal, which an own name is not.
    with pytest.raises(ConfigError, match=r"config\.task\.name: .*" + message):
        if ":" in name:
            tasks.entry_of(name).load()
        tiny_run.resolve({**raw, "task": {**raw["task"], "name": name}})


# ---- models that only encode ----

ENCODER = '''
import dataclasses
from seqjax.tasks.translation import TranslationConfig, TranslationTask

@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodingConfig(TranslationConfig):
    name: str = "mypackage.encoding:Encoding"

class Encoding(TranslationTask):
    Config = EncodingConfig
    facade = "seqjax.hub.encoder:Encoder"

    def evaluator(self, model, dataset, **options):
        return None
'''


@pytest.fixture
def encoder(mypackage, data, tmp_path):
    (mypackage / "encoding.py").write_text(ENCODER)
    return write_checkpoint(tmp_path / "run", data, task={"name": "mypackage.encoding:Encoding"},
                            valid={"decode": True})


def test_an_encoder_gives_hidden_states(encoder, data):
    model = seqjax.load(encoder, quiet=True)
    assert isinstance(model, hub.Encoder) and not model.generates
    texts = ["aa1 aa2 aa3", "aa4", *("aa5 aa6" for _ in range(20))]
    found = model.features(texts)
    assert [f.shape for f in found] == [(len(t.split()) + 1, 8) for t in texts]
    source = token_source(np.array([model.encode("aa4")]), pad=1)
    wanted = model.models[0].encode(model.params[0], source).out[0]
    np.testing.assert_allclose(found[1], wanted, atol=1e-5)
    assert "at most 1024 tokens" in repr(model) and "beam" not in repr(model)
    assert model.evaluate("valid", data=str(data)).values["loss"] > 0
    with pytest.raises(ValueError, match=r"texts\[1\]: has 1101 tokens"):
        model.features(["aa1", "aa1 " * 1100])


def test_generate_says_that_there_is_nothing_to_generate(encoder, data, tmp_path):
    (tmp_path / "in").write_text("aa1\n")
    for more in (["--input", str(tmp_path / "in")], ["--data", str(data)]):
        with pytest.raises(ConfigError, match="task mypackage.encoding:Encoding, which generates"):
            generate.main(["--checkpoint", str(encoder), *more])
    with pytest.raises(ConfigError, match="takes no lm"):
        seqjax.load(encoder, lm=str(encoder), quiet=True)


def test_validation_without_an_evaluator(encoder, data):
    """`valid.decode` asks for nothing that the task has not; `valid.metric` says what there is."""
    from seqjax.training import initial_state, parts

    raw = tiny_run.raw_config(data, task={"name": "mypackage.encoding:Encoding"},
                              valid={"decode": True, "metric": "bleu"},
                              batching={"max_tokens": 256})
    found = parts.prepare(tiny_run.resolve(raw))
    assert "bleu" not in found.validator.metrics
    with pytest.raises(ConfigError, match="valid.metric: 'bleu' is not one of loss, nll_loss, ppl"):
        found.validator.check_metric(initial_state.abstract_state(found))
