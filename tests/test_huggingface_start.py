"""Training that begins with folders of Hugging Face's (seqjax/interop/huggingface/start.py)."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import folders_of_transformers as folders
import jax
import numpy as np
import pytest
import tokenizers as library
from safetensors.numpy import load_file

import seqjax
from seqjax import convert, models, preprocess, tasks, train
from seqjax.checkpoints import CheckpointError
from seqjax.config import ConfigError
from seqjax.data import folder as data_folder
from seqjax.data.indexed import IndexedWriter
from seqjax.data.tokenizers import TokenizerError
from seqjax.data.tokenizers import folders as tokenizer_folders
from seqjax.interop.huggingface import start, symbols
from seqjax.interop.huggingface.model import read_model
from seqjax.settings import resolve
from seqjax.training import initial_state
from seqjax.training.parts import prepare

CASES = (
    "bart_forced", "bart_labels", "bert", "bert_model", "camembert", "roberta_labels",
    "roberta_model", "xlm_roberta", "fsmt/apart", "gpt2/tied", "m2m/language_forced",
    "marian/target_tied", "mbart/language_forced", "opt/post_norm_projected", "xglm/tied")
"""Folders of transformers' own, and recorded cases that become such; every family."""
TASKS: dict[str, dict[str, Any]] = {
    "masked_lm": {"tokens_per_sample": 10}, "language_modeling": {"tokens_per_sample": 10},
    "seq2seq": {"source_lang": "en_XX", "target_lang": "ro_RO"}}
HEAD = "sentence_classification_head"
RECIPE = pathlib.Path(__file__).parents[1] / "configs" / "roberta_glue.py"


def folder_of(case: str, target: pathlib.Path) -> pathlib.Path:
    if "/" not in case:
        return folders.copied(case, target)
    folders.of_family(case, target)
    return target


def give_tokenizer(
    folder: pathlib.Path, named: dict[int, str], *, template: tuple[str, str] = ("", ""),
    **said: Any,
) -> list[str]:
    """A `tokenizer.json` with a word for each of a folder's rows; gives the words.

    Args:
      named: id -> special symbol; the others are w0, w1, ...
      template: what stands around a text, and around two.
    """
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    words = [named.get(i, f"w{i}") for i in range(size)]
    ids = {word: i for i, word in enumerate(words)}
    made = library.Tokenizer(library.models.WordLevel(ids, unk_token=words[0]))
    made.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    if any(template):
        made.post_processor = library.processors.TemplateProcessing(
            single=template[0], pair=template[1],
            special_tokens=[(word, i) for i, word in named.items()])
    made.add_special_tokens(list(named.values()))
    (folder / "tokenizer.json").write_text(made.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", **said}))
    return words


ROBERTA = {0: "<s>", 1: "<pad>", 2: "</s>", 3: "<unk>", 39: "<mask>"}
PAIRS = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
BERT = {0: "[PAD]", 1: "[UNK]", 2: "[CLS]", 3: "[SEP]", 39: "[MASK]"}


def write_data(place: pathlib.Path, task: Any, *, langs: tuple[str, ...]) -> pathlib.Path:
    """Sentences of words of a task's dictionaries, under these."""
    place.mkdir()
    rng = np.random.default_rng(0)
    sides = ((task.source_vocab, task.target_vocab) if langs else (task.source_vocab,))
    for lang, vocabulary in zip(langs or ("",), sides, strict=True):
        data_folder.save_dictionary(place, vocabulary, lang)
        words = [i for i in range(len(vocabulary)) if i not in vocabulary.special_ids]
        name = f"train.{langs[0]}-{langs[1]}.{lang}" if langs else "train"
        with IndexedWriter(place / name, dtype=np.dtype(np.uint16)) as out:
            for length in (3, 5, 2, 4) * 6:
                out.append(np.append(rng.choice(words, length), vocabulary.eos))
    return place


def raw_config(folder: pathlib.Path, data: pathlib.Path, name: str, **more: Any) -> dict[str, Any]:
    return {
        "init_from": str(folder), "task": {"name": name, "data": str(data), **TASKS.get(name, {})},
        "loss": {"name": "masked_lm" if name == "masked_lm" else "cross_entropy"},
        "batching": {"max_tokens": 96, "num_shapes": 1, "backend": "numpy"},
        "valid": {"enabled": False}, **more}


class NoCheckpoints:
    """Of a work folder that is new."""

    @staticmethod
    def latest() -> None:
        return None


def begun(raw: dict[str, Any]) -> tuple[Any, initial_state.Initial, Any]:
    """The resolved configuration, what a run begins with, and the folder's model."""
    whole, pretrained = start.completed(raw)
    assert pretrained is not None
    config = resolve(whole)
    parts = prepare(config)
    saved: Any = NoCheckpoints()
    initial = initial_state.begin(
        parts, initial_state.abstract_state(parts), saved=saved,
        start=start.start_from(config, pretrained))
    return config, initial, pretrained.found


def leaves(tree: Any) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(value)
            for path, value in jax.tree_util.tree_leaves_with_path(jax.device_get(tree))}


@pytest.mark.parametrize("case", CASES)
def test_every_family_is_a_start(case, tmp_path):
    """No key of the model is given: it is the folder's, weights to the bit. Heads for masked
    words that it lacks are drawn, and heads that the task has no use for are left out."""
    folder = folder_of(case, tmp_path / "folder")
    found = read_model(folder)
    name = found.config["task"]["name"]
    theirs = tasks.from_assets(resolve(found.config), found.assets)
    pair = ("en_XX", "ro_RO") if name == "seq2seq" else ()
    data = write_data(tmp_path / "data", theirs, langs=pair)
    config, initial, _ = begun(raw_config(folder, data, name))
    assert config.model.name == found.config["model"]["name"]
    for key, value in found.config["task"].items():
        if key not in TASKS[name]:
            assert getattr(config.task, key) == (
                tuple(value) if isinstance(value, list) else value), key
    ours, wanted = leaves(initial.state.params), leaves(found.params)
    for key in ours.keys() & wanted.keys():
        np.testing.assert_array_equal(ours[key], wanted[key], err_msg=key)
    drawn, left = ours.keys() - wanted.keys(), wanted.keys() - ours.keys()
    assert all(key.startswith("encoder.lm_head.") for key in drawn)
    assert bool(drawn) == (case in ("bert_model", "roberta_labels", "roberta_model"))
    assert ("parameters drawn anew: encoder.lm_head" in initial.origin) == bool(drawn)
    assert all(key.startswith("classification_heads.") for key in left)
    assert bool(left) == case.endswith("labels")
    assert "has no tokenizer that says its words" in initial.origin


MODEL_TYPES = {
    "bert": "bert", "camembert_spm": "camembert", "fsmt": "fsmt", "m2m": "m2m_100",
    "marian": "marian", "mbart_spm": "mbart", "roberta": "roberta", "vocab_merges": "gpt2",
    "vocab_txt": "bert", "xlmr": "xlm-roberta", "xlmr_spm": "xlm-roberta"}
"""Folders of tokenizers' files in goldens/tokenizers."""


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_preprocessing_gives_the_vocabulary_of_the_model(name, goldens, tmp_path):
    """The same words, ids for padding and eos, and tokenizers, whatever the files are."""
    place = tmp_path / name
    shutil.copytree(goldens / "tokenizers" / name, place)
    model_type = MODEL_TYPES[name]
    table = next(t for *_, t in models.huggingface_tables() if model_type in t.model_types)
    made = tokenizer_folders.of_folder(place)
    sizes = (len(made.symbols) + 3, len(made.target_symbols) + 3)  # rows of no word
    hf = {"model_type": model_type, **dict(zip(table.vocabularies, sizes, strict=True))}
    (place / "config.json").write_text(json.dumps(hf))
    made = tokenizer_folders.of_folder(place)
    sides = symbols.sides(place, model_type=model_type, layout=table.layout, sizes=sizes)
    special = symbols.special_ids(
        hf, {}, table, size=sizes[1], symbols=sides[1].symbols, said=symbols.special_names(place))
    assert (made.source, made.target) == tuple(side.tokenizer for side in sides)
    for data, side, size in zip(made.vocabularies(), sides, sizes, strict=True):
        model = symbols.vocabulary(side, size=size, special=special)
        assert data.symbols == model.symbols
        assert (data.pad, data.eos, data.unk) == (model.pad, model.eos, model.unk)


def write_sentences(place: pathlib.Path, words: list[str], classes: int) -> str:
    """Files of pairs of sentences, whose class is the parity of the first word."""
    place.mkdir()
    rng = np.random.default_rng(1)
    for split, count in (("train", 24), ("valid", 8)):
        files = {name: open(place / f"{split}.{name}", "w") for name in (  # noqa: SIM115
            "input0", "input1", "label")}
        for number in range(count):
            for name in ("input0", "input1"):
                files[name].write(" ".join(rng.choice(words, 4)) + "\n")
            files["label"].write(f"class{number % classes}\n")
        for file in files.values():
            file.close()
    return str(place)


def preprocessed(place: pathlib.Path, folder: pathlib.Path, words: list[str], *, classes: int = 2):
    texts = write_sentences(place.with_name(f"{place.name}.txt"), words, classes)
    assert not preprocess.main([
        "--task", "sentence_prediction", "--trainpref", f"{texts}/train", "--validpref",
        f"{texts}/valid", "--destdir", str(place), "--tokenizer", f"hf:{folder}"])
    return place


def same_parameters(model: Any, other: Any) -> None:
    ours, theirs = leaves(model.params[0]), leaves(other.params[0])
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


QUICK = ("--config.train.max_update=1", "--config.valid.enabled=false",
         "--config.log.tensorboard=false", "--config.batching.num_shapes=1")


def test_roberta_on_glue_by_the_recipe_and_back(tmp_path, capfd):
    """Preprocessing with the folder's tokenizer, the recipe of GLUE, the model with its tokenizer,
    a folder that transformers loads; a run that is gone on with."""
    folder = folders.copied("xlm_roberta", tmp_path / "folder")
    words = give_tokenizer(folder, ROBERTA, template=PAIRS)
    data = preprocessed(tmp_path / "data", folder, words[4:39])
    run, out = str(tmp_path / "run"), tmp_path / "out"
    command = ["--config", f"{RECIPE}:RTE", "--workdir", run, f"--config.init_from={folder}",
               f"--config.task.data={data}", *QUICK]
    train.main(command)
    said = capfd.readouterr().err
    assert "config.model.arch=roberta_base: encoder_embed_dim" in said
    assert f"classification heads new: {HEAD}" in said
    assert "tokenizer" not in said  # the data were cut by the folder's
    train.main([*command[:-4], "--config.train.max_update=2", *command[-3:]])
    model = seqjax.load(run, quiet=True)
    pairs = [("w5 w6 w7", "w8"), ("w9 w10", "w11 w12")]
    assert list(model.encode(*pairs[0])) == [0, 5, 6, 7, 2, 2, 8, 2]
    found = model.predict(HEAD, pairs)
    convert.main([run, "--to", "hf", str(out)])
    hf = json.loads((out / "config.json").read_text())
    assert hf["architectures"] == ["XLMRobertaForSequenceClassification"]
    assert hf["model_type"] == "xlm-roberta" and hf["dtype"] == "float32"
    assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    again = seqjax.load(out, quiet=True)
    np.testing.assert_array_equal(again.predict(HEAD, pairs), found)
    np.testing.assert_array_equal(
        again.predict(HEAD, [list(model.encode(*pair)) for pair in pairs]), found)


def test_a_language_model_goes_on_and_back(tmp_path):
    folder = folder_of("gpt2/tied", tmp_path / "folder")
    give_tokenizer(folder, {39: "<|endoftext|>"})
    text = tmp_path / "text"
    text.write_text("w1 w2 w3 w4\nw5 w6 w7\n" * 12)
    assert not preprocess.main([
        "--only-source", "--trainpref", str(text), "--destdir", str(tmp_path / "data"),
        "--tokenizer", f"hf:{folder}"])
    (tmp_path / "c.json").write_text(json.dumps(raw_config(
        folder, tmp_path / "data", "language_modeling", schedule={"name": "fixed"},
        batching={"mode": "packed", "pack_length": 20, "max_tokens": 160, "backend": "numpy"})))
    train.main(["--config", str(tmp_path / "c.json"), "--workdir", str(tmp_path / "run"),
                "--config.train.max_update=1", "--config.log.tensorboard=false"])
    model = seqjax.load(tmp_path / "run", quiet=True)
    assert type(model).__name__ == "LanguageModel" and list(model.encode("w3 w4"))[:2] == [3, 4]
    convert.main([str(tmp_path / "run"), "--to", "hf", str(tmp_path / "out")])
    same_parameters(model, seqjax.load(tmp_path / "out", quiet=True))
    hf, before = (json.loads((place / "config.json").read_text())
                  for place in (tmp_path / "out", folder))
    assert {key: hf.get(key) for key in before} == before
    tensors = [load_file(place / "model.safetensors") for place in (tmp_path / "out", folder)]
    assert tensors[0].keys() == tensors[1].keys()
    assert any(np.any(tensors[0][name] != tensors[1][name]) for name in tensors[0])


def test_a_translator_of_languages_goes_on_and_back(tmp_path):
    folder = folder_of("mbart/language_forced", tmp_path / "folder")
    give_tokenizer(folder, {**ROBERTA, 35: "en_XX", 36: "ro_RO"}, src_lang="en_XX",
                   tgt_lang="ro_RO", tokenizer_class="MBartTokenizerFast")
    for lang in ("en_XX", "ro_RO"):
        (tmp_path / f"text.{lang}").write_text("w5 w6 w7 w8\nw9 w10\n" * 12)
    assert not preprocess.main([
        "--source-lang", "en_XX", "--target-lang", "ro_RO", "--trainpref", str(tmp_path / "text"),
        "--destdir", str(tmp_path / "data"), "--tokenizer", f"hf:{folder}"])
    (tmp_path / "c.json").write_text(json.dumps(raw_config(folder, tmp_path / "data", "seq2seq")))
    train.main(["--config", str(tmp_path / "c.json"), "--workdir", str(tmp_path / "run"),
                "--config.train.max_update=1", "--config.log.tensorboard=false"])
    with pytest.raises(ConfigError, match="that config.task.name=translation_from_pretrained_bart "
                                          "adds .*Set config.task.name=seq2seq"):
        raw = json.loads((tmp_path / "c.json").read_text())
        begun({**raw, "task": {**raw["task"], "name": "translation_from_pretrained_bart",
                               "langs": ("en_XX", "ro_RO")}})
    model, before = (seqjax.load(place, quiet=True) for place in (tmp_path / "run", folder))
    assert model.task.langs == ("en_XX", "ro_RO") == before.task.langs
    assert list(model.encode("w5 w6")) == list(before.encode("w5 w6"))
    convert.main([str(tmp_path / "run"), "--to", "hf", str(tmp_path / "out")])
    again = seqjax.load(tmp_path / "out", quiet=True)
    same_parameters(model, again)
    assert again.task.forms == model.task.forms == before.task.forms


def test_a_head_of_the_folder_is_taken_where_it_fits(tmp_path):
    """fairseq's name and the same number of classes; one of another size begins anew."""
    folder = folders.copied("roberta_labels", tmp_path / "folder")
    words = give_tokenizer(folder, ROBERTA, template=PAIRS)
    for classes in (3, 2):
        data = preprocessed(tmp_path / f"data{classes}", folder, words[4:39], classes=classes)
        raw = raw_config(folder, data, "sentence_prediction", loss={})
        raw["task"]["num_classes"] = classes
        raw["model"] = {"dropout": 0.3, "encoder_layers_to_keep": "1"}
        config, initial, found = begun(raw)
        assert config.model.dropout == 0.3 and config.model.encoder_layers == 1
        key = "encoder.sentence_encoder.layers.fc1.kernel"
        kept, whole = (leaves(tree)[key] for tree in (
            initial.state.params, read_model(folder).params))
        assert len(kept) == 1 and len(whole) == 2
        np.testing.assert_array_equal(kept[0], whole[1])
        assert (config.task.init_token, config.task.separator_token) == (0, 2)
        assert not config.model.masked_lm_head  # which nothing here would train
        ours, theirs = (leaves(tree["classification_heads"][HEAD])
                        for tree in (initial.state.params, found.params))
        assert all(np.array_equal(ours[k], theirs[k]) for k in ours) == (classes == 3)
        assert ("begun anew, as their sizes differ" in initial.origin) == (classes == 2)


def test_special_symbols_of_bert_are_its_own(tmp_path):
    """Ids around sentences are the folder's; others that are given are said."""
    folder = folders.copied("bert_model", tmp_path / "folder")
    words = give_tokenizer(folder, BERT, template=(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]"))
    data = preprocessed(tmp_path / "data", folder, words[4:39])
    raw = raw_config(folder, data, "sentence_prediction", loss={})
    raw["task"]["num_classes"] = 2
    config, initial, _ = begun(raw)
    assert (config.task.init_token, config.task.separator_token) == (2, None)
    assert "note" not in initial.origin
    raw["task"] |= {"init_token": 0, "separator_token": 2}
    assert "note: config.task.init_token is 0, but the folder's tokenizer puts 2 there" in (
        begun(raw)[1].origin)
    assert "--config.task.separator_token=none" in begun(raw)[1].origin
    with pytest.raises(ConfigError, match="of the family bert, but config.model.arch=roberta_base "
                                          "is one of roberta: set --config.model.name=bert"):
        start.completed({**raw, "model": {"arch": "roberta_base"}})
    train.main(["--config", f"{RECIPE}:RTE", "--config.model.name=bert", "--print-config",
                f"--config.init_from={folder}", f"--config.task.data={data}"])


def test_a_name_on_the_hub_and_a_folder_of_fairseqs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    def no_network(*args: Any, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.list_repo_files", no_network)
    place = tmp_path / "models--org--tiny"
    (place / "snapshots").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    folder = folders.copied("roberta", place / "snapshots" / ("0" * 40))
    words = give_tokenizer(folder, ROBERTA, template=PAIRS)
    data = preprocessed(tmp_path / "data", pathlib.Path("org/tiny"), words[4:39])
    raw = raw_config(pathlib.Path("hf:org/tiny"), data, "sentence_prediction", loss={})
    raw["task"]["num_classes"] = 2
    config, initial, _ = begun(raw)
    assert config.init_from == "hf:org/tiny" and "starting from hf:org/tiny" in initial.origin
    whole, pretrained = start.completed({**raw, "init_from": f"hf:{folder}"})
    assert pretrained is not None and pretrained.folder == str(folder)
    assert whole["model"]["name"] == "roberta"
    with pytest.raises(CheckpointError, match="init_from: hf:org/other: is not in the cache"):
        start.completed({**raw, "init_from": "hf:org/other"})
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "model.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match="is a folder of Hugging Face's; python -m seqjax.train"):
        initial_state._ours(str(folder), "init_from")
    found, none = start.completed({"init_from": str(tmp_path / "fairseq")})
    assert found["init_from"] == str(tmp_path / "fairseq" / "model.pt") and none is None


# ---- wrong input ----


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A folder with a tokenizer, and data that were preprocessed with it."""
    place = tmp_path_factory.mktemp("roberta")
    folder = folders.copied("roberta", place / "folder")
    words = give_tokenizer(folder, ROBERTA, template=PAIRS)
    return folder, preprocessed(place / "data", folder, words[4:39]), words


def refused(capsys: Any, workdir: pathlib.Path, *words: str) -> str:
    """The one line that a command that cannot work says."""
    with pytest.raises((ConfigError, CheckpointError, FileNotFoundError, TokenizerError)) as caught:
        train.main(["--config", f"{RECIPE}:RTE", "--workdir", str(workdir), *QUICK, *words])
    assert not list(workdir.glob("checkpoints/*")) and "compiling" not in capsys.readouterr().err
    found = str(caught.value)
    assert "\n" not in found
    return found


def test_wrong_folders_are_said_in_one_line(roberta, tmp_path, capsys):
    folder, data, words = roberta
    keys = (f"--config.task.data={data}",)

    def changed(name: str, **values: Any) -> pathlib.Path:
        place = tmp_path / name
        place.mkdir()
        for file in folder.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        about = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**about, **values}))
        return place

    def said(place: pathlib.Path, *more: str) -> str:
        return refused(capsys, tmp_path / "run", f"--config.init_from={place}", *keys, *more)

    assert "unknown; known ones are bart, bert" in said(changed("type", model_type="t5"))
    place = changed("none")
    (place / "config.json").unlink()
    assert "has no config.json, which says what model" in said(place)
    (place / "model.safetensors").unlink()
    assert "holds no checkpoint: neither" in said(place)
    place = changed("weights")
    (place / "model.safetensors").unlink()
    assert "has no weights" in said(place)
    assert "no such file or folder" in said(tmp_path / "nowhere")
    place = changed("tokenizer")
    about = json.loads((place / "tokenizer.json").read_text())
    about["model"]["vocab"]["more"] = 40
    (place / "tokenizer.json").write_text(json.dumps(about))
    assert "tokenizer.json is not the model's: it has 41 symbols" in said(place)
    found = said(folder, "--config.model.encoder_embed_dim=24")
    assert "encoder_embed_dim is 12 there, 24 here. Leave these keys out" in found
    found = refused(capsys, tmp_path / "run", f"--config.resume_from={folder}", *keys)
    assert "is a folder of Hugging Face's" in found and "init_from" in found
    found = said(folder, "--config.model.name=gpt2")
    assert "of the family roberta, but config.model.name=gpt2" in found


def test_data_of_other_words_are_said_in_one_line(roberta, tmp_path, capsys):
    folder, data, words = roberta

    def said(place: pathlib.Path, where: pathlib.Path, *more: str) -> str:
        return refused(capsys, tmp_path / "run", f"--config.init_from={place}",
                       f"--config.task.data={where}", *more)

    # A tokenizer of other words; a dictionary of another size; fairseq's pieces.
    other = folders.copied("roberta", tmp_path / "other")
    give_tokenizer(other, {**ROBERTA, 20: "extra"}, template=PAIRS)
    found = said(other, data)
    assert "id 20 is 'extra' there and 'w20' here" in found
    assert f"Either preprocess with --tokenizer hf:{other}, or set" in found
    texts = write_sentences(tmp_path / "texts", words[4:30], 2)
    assert not preprocess.main([
        "--task", "sentence_prediction", "--trainpref", f"{texts}/train", "--validpref",
        f"{texts}/valid", "--destdir", str(tmp_path / "plain")])
    capsys.readouterr()
    found = said(folder, tmp_path / "plain")
    assert "entries there" in found and f"--tokenizer hf:{folder}" in found
    # A folder without a tokenizer says how many words it has, and which ids are special.
    bare = folders.copied("roberta", tmp_path / "bare")
    found = said(bare, tmp_path / "plain")
    assert "40 entries there" in found and "no tokenizer to preprocess with" in found
    found = said(bare, tmp_path / "plain", "--config.init_vocabulary=match")
    assert "are not known" in found and "its tokenizer there" in found
    bert = folders.copied("bert", tmp_path / "bert")
    found = said(bert, data, "--config.model.name=bert")
    assert "padding is id 0 there, 1 here" in found


def test_rows_move_to_data_of_other_words(roberta, tmp_path):
    """With init_vocabulary=match, by symbol; the tokenizer's files do not go along then."""
    folder, data, words = roberta
    other = folders.copied("roberta", tmp_path / "other")
    give_tokenizer(other, {**ROBERTA, 20: "w21", 21: "w20"}, template=PAIRS)
    raw = raw_config(other, data, "sentence_prediction", loss={}, init_vocabulary="match")
    raw["task"]["num_classes"] = 2
    _, initial, found = begun(raw)
    table = "encoder.sentence_encoder.embed_tokens.embedding"
    ours, theirs = leaves(initial.state.params)[table], leaves(found.params)[table]
    np.testing.assert_array_equal(ours[20], theirs[21])
    np.testing.assert_array_equal(ours[5], theirs[5])
    assert not initial.assets
    assert begun({**raw, "init_from": str(folder)})[1].assets.keys() >= {
        "huggingface.json", "huggingface/tokenizer.json"}
