"""fairseq's two tasks of models that know languages: its numbers, batches, outputs, files.

The checkpoints in `goldens/multilingual`, and what they compute and print, were recorded with
fairseq (`scripts/record_multilingual.py`).
"""

from __future__ import annotations

import functools
import json

import jax
import numpy as np
import packed
import pytest
from resave import resave_fairseq

import seqjax
from seqjax import generate, hub, tasks
from seqjax.config import ConfigError
from seqjax.data.epoch_plan import Shape
from seqjax.generation.teacher_forcing import previous_tokens
from seqjax.interop.fairseq.checkpoint import load_fairseq, to_state
from seqjax.interop.fairseq.folder import write_file, write_folder
from seqjax.interop.torch.files import read_pt
from seqjax.training import objective

GOLDENS = packed.unpacked(packed.GOLDENS) / "multilingual"
DATA = GOLDENS / "data"
DIRECTIONS = {"mbart": ("aa-bb",), "m2m": ("aa-bb", "bb-aa", "aa-cc"),
              "replacing": ("bb-aa", "aa-cc")}
CASES = [(case, direction) for case, found in DIRECTIONS.items() for direction in found]
SENTENCES = 6


@functools.cache
def model(case):
    return hub.load(GOLDENS / case / "checkpoint.pt", data=DATA, quiet=True)


@functools.cache
def recorded(case):
    return dict(np.load(GOLDENS / case / "forward.npz"))


def of_direction(case, direction):
    """The task of one direction, and what was recorded of it."""
    task = model(case).task.translating(*direction.split("-")).with_config(data=str(DATA))
    prefix = f"{direction}/"
    return task, {k.removeprefix(prefix): v for k, v in recorded(case).items()
                  if k.startswith(prefix)}


def turned(rows):
    """Rows that were padded on the left, padded on the right."""
    out = np.full_like(rows, 1)
    for row, ids in zip(out, rows, strict=True):
        real = ids[ids != 1]
        row[:len(real)] = real
    return out


def batch_of(task, found):
    """The split valid as a batch of ours, its rows in fairseq's order."""
    dataset, order = task.dataset("valid"), found["ids"]
    shape = Shape(len(order), found["source"].shape[1], found["target"].shape[1])
    return dataset.materialise(order, np.arange(len(order)), shape)


@pytest.mark.parametrize("case, direction", CASES)
def test_batches_are_fairseqs(case, direction):
    task, found = of_direction(case, direction)
    batch = batch_of(task, found)
    assert (batch["source"] == turned(found["source"])).all()
    assert (batch["target"] == found["target"]).all()
    prev = previous_tokens(batch["target"], None, pad=1, start=task.target_form.start)
    assert (np.asarray(prev) == found["prev"]).all()


@pytest.mark.parametrize("case, direction", CASES)
def test_numbers_are_fairseqs(case, direction):
    """Log-probabilities, loss, and the gradient of every parameter."""
    task, found = of_direction(case, direction)
    ours = model(case)
    net, params = ours.models[0], ours.params[0]
    batch = {k: jax.numpy.asarray(v) for k, v in batch_of(task, found).items()}
    forward = jax.jit(lambda p: jax.nn.log_softmax(task.forward(net, p, batch).features.logits()))
    real = found["target"] != 1
    np.testing.assert_allclose(
        np.asarray(forward(params))[real], found["lprobs"][real], atol=1e-4)
    loss_fn = objective.loss_function(task, net, ours.config.loss, sentence_avg=False)

    def total(p):
        output, _ = loss_fn(p, {}, batch, None, jax.numpy.int32(0))
        return output.sum, output

    (loss, output), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    np.testing.assert_allclose(loss, found["loss"], rtol=1e-5)
    assert float(output.metrics["ntokens"][0]) == found["ntokens"]
    np.testing.assert_allclose(float(output.metrics["nll_loss"][0]), found["nll_loss"], rtol=1e-5)
    theirs = to_state(jax.device_get(gradient), ours.config.model, **task.vocab_sizes)
    grads = {k.removeprefix("grad/"): v for k, v in found.items() if k.startswith("grad/")}
    assert len(grads) > 30
    for name, wanted in grads.items():
        np.testing.assert_allclose(theirs[name], wanted, atol=1e-4, err_msg=name)


@functools.cache
def hypotheses(case):
    return json.loads((GOLDENS / case / "hypos.json").read_text())


SEARCHES = ("beam4", "greedy", "lenpen", "short")


@pytest.mark.parametrize("case, direction", CASES)
@pytest.mark.parametrize("search", SEARCHES)
def test_hypotheses_are_fairseqs(case, direction, search):
    """From ids of the data folder, from texts, and from ids without language tokens."""
    wanted = hypotheses(case)[direction][search]
    options = {"max_len_b": 20, **wanted["options"]}
    source, target = direction.split("-")
    split = model(case).translating(source, target).split(str(DATA), "test")
    texts = (DATA / "text" / f"test.{'-'.join(sorted((source, target)))}.{source}").read_text()
    plain = [task_words(case, source, target, ids) for ids in split.inputs]
    for inputs in (split.inputs, texts.splitlines(), plain):
        found = model(case).generate(inputs, source_lang=source, target_lang=target, **options)
        for ours, theirs in zip(found, wanted["hypotheses"], strict=True):
            assert [h.tokens.tolist() for h in ours] == [h["tokens"] for h in theirs]
            for h, other in zip(ours, theirs, strict=True):
                assert h.score == pytest.approx(other["score"], abs=1e-4)
                np.testing.assert_allclose(h.positional_scores, other["positional_scores"],
                                           atol=1e-4)


def task_words(case, source, target, ids):
    """Ids with eos alone behind the words."""
    frame = model(case).task.translating(source, target).source_frame
    return [*frame.words(ids).tolist(), 2]


@pytest.mark.parametrize("case", DIRECTIONS)
def test_outputs_are_printed_as_fairseqs(case, tmp_path, capsys):
    for name in ("generate", "score_reference"):
        header, *lines = (GOLDENS / case / f"{name}.txt").read_text().splitlines()
        words = header.removeprefix("# ").split()
        generate.main([str(DATA), "--checkpoint", str(GOLDENS / case / "checkpoint.pt"),
                       "--format", "fairseq", "--output", str(tmp_path / name), *words])
        ours = (tmp_path / name).read_text().splitlines()
        if "--score-reference" in words and case == "m2m":
            # There fairseq shows the language's token; here text never has it.
            lines = [line if line.startswith("S-") else line.replace("__cc__ ", "")
                     for line in lines]
        if case == "replacing":
            # There fairseq draws the order of sentences of one length.
            ours, lines = by_sentence(ours), by_sentence(lines)
        compare_lines(ours, lines)
    capsys.readouterr()


def by_sentence(lines):
    """Lines in the order of the corpus."""
    return sorted(lines, key=lambda x: (not x[1:].startswith("-"), x.split("\t")[0][2:]))


def compare_lines(ours, wanted):
    """The same lines; scores to 4 decimals."""
    assert [line.split("\t")[0] for line in ours] == [line.split("\t")[0] for line in wanted]
    for mine, theirs in zip(ours, wanted, strict=True):
        if mine.startswith(("H-", "D-")):
            (_, score, text), (_, other, wanted_text) = mine.split("\t"), theirs.split("\t")
            assert float(score) == pytest.approx(float(other), abs=2e-4) and text == wanted_text
        elif mine.startswith("P-"):
            numbers = [[float(x) for x in line.split("\t")[1].split()] for line in (mine, theirs)]
            np.testing.assert_allclose(*numbers, atol=3e-4)
        else:
            assert mine == theirs


# ---- files ----


@pytest.mark.parametrize("case", DIRECTIONS)
def test_a_file_goes_out_as_it_came_in(case, tmp_path):
    """`.pt` -> a folder of ours -> `.pt`: every tensor bit for bit, every word of the task."""
    path = GOLDENS / case / "checkpoint.pt"
    write_folder(path, tmp_path / "run", data=str(DATA))
    write_file(tmp_path / "run", tmp_path / "again.pt")
    before, after = read_pt(path), read_pt(tmp_path / "again.pt")
    assert set(before["model"]) == set(after["model"])
    for name, value in before["model"].items():
        assert value.dtype == after["model"][name].dtype
        assert value.tobytes() == after["model"][name].tobytes(), name
    stored = dict(before["cfg"]["task"])
    said = after["args"]
    for key in ("langs", "lang_pairs", "encoder_langtok", "decoder_langtok", "lang_tok_style",
                "lang_tok_replacing_bos_eos", "source_lang", "target_lang", "prepend_bos",
                "sampling_method", "sampling_temperature"):
        if stored.get(key) is not None:
            found = said[key]
            if isinstance(stored[key], list) and isinstance(found, str):
                found = found.split(",")  # as commands say it, which fairseq splits
            assert plain(found) == plain(stored[key]), key
    assert said["task"] == stored["_name"] if "_name" in stored else True
    again = hub.load(tmp_path / "again.pt", data=DATA, quiet=True)
    assert again.task.source_vocab == model(case).task.source_vocab
    resave_fairseq(tmp_path / "resaved.pt", load_fairseq(path))
    resaved = read_pt(tmp_path / "resaved.pt")
    assert {k: v.tobytes() for k, v in resaved["model"].items()} == {
        k: v.tobytes() for k, v in before["model"].items()}


def plain(value):
    return list(value) if isinstance(value, (list, tuple)) else value


def test_dictionaries_have_the_tasks_tokens_behind_their_words():
    vocab = model("mbart").task.source_vocab
    assert vocab.symbols[-4:] == ["[aa]", "[bb]", "[cc]", "<mask>"]
    assert model("m2m").task.source_vocab.symbols[-3:] == ["__aa__", "__bb__", "__cc__"]
    assert model("replacing").task.target_vocab.symbols[-4:] == [
        "[aa]", "[bb]", "[cc]", "<mask>"]


def test_what_fairseq_took_from_the_command_line_again_may_be_said(tmp_path):
    words = tmp_path / "fixed.txt"
    words.write_text((DATA / "dict.aa.txt").read_text())
    given = {"langs": "aa,bb,cc", "encoder_langtok": "src", "fixed_dictionary": str(words)}
    found = hub.load(GOLDENS / "m2m" / "checkpoint.pt", task_overrides=given, quiet=True)
    assert found.task.source_vocab == model("m2m").task.source_vocab
    with pytest.raises(ConfigError, match="its task is translation_from_pretrained_bart, which"):
        hub.load(GOLDENS / "mbart" / "checkpoint.pt", data=DATA, quiet=True,
                 task_overrides={"encoder_langtok": "src"})
    with pytest.raises(ConfigError, match="and 5 tokens of the task"):
        hub.load(GOLDENS / "m2m" / "checkpoint.pt", data=DATA, quiet=True,
                 task_overrides={"langs": "aa,bb,cc,dd,ee"})


# ---- the hub ----


def texts(direction, lang):
    return (DATA / "text" / f"test.{direction}.{lang}").read_text().splitlines()


def test_each_input_may_have_languages_of_its_own():
    """Results do not depend on what else is in the call."""
    sources = texts("aa-bb", "aa")[:3] + texts("aa-bb", "bb")[:2] + texts("aa-cc", "aa")[:1]
    pairs = [("aa", "bb"), ("aa", "cc"), ("aa", "bb"), ("bb", "aa"), ("bb", "aa"), ("aa", "cc")]
    for case in ("m2m", "replacing"):
        together = model(case).generate(
            sources, beam=3, nbest=2, max_len_b=12, source_lang=[s for s, _ in pairs],
            target_lang=[t for _, t in pairs])
        for text, (source, target), found in zip(sources, pairs, together, strict=True):
            (alone,) = model(case).generate([text], beam=3, nbest=2, max_len_b=12,
                                            source_lang=source, target_lang=target)
            assert [h.tokens.tolist() for h in found] == [h.tokens.tolist() for h in alone]
            assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-5)
            assert [h.text for h in found] == [h.text for h in alone]
            assert "_" not in found[0].text and "[" not in found[0].text


def test_outputs_that_end_differently_are_searched_apart():
    """mBART's outputs end in the token of their language."""
    sources = texts("aa-bb", "aa")[:3]
    found = model("mbart").generate(sources, target_lang=["bb", "cc", "bb"], max_len_b=9)
    vocab = model("mbart").task.target_vocab
    assert [vocab[h[0].tokens[-1]] for h in found] == ["[bb]", "[cc]", "[bb]"]
    alone = model("mbart").generate(sources[1:2], target_lang="cc", max_len_b=9)
    assert found[1][0].tokens.tolist() == alone[0][0].tokens.tolist()
    with pytest.raises(ValueError, match="\\[1\\]: has no tokens"):
        model("mbart").generate([[5, 2], [], [6, 2]], target_lang=["bb", "cc", "bb"])


def test_a_translation_is_scored_as_it_was_found():
    for case, direction in CASES:
        source, target = direction.split("-")
        lines = texts("-".join(sorted((source, target))), source)[:2]
        found = model(case).generate(lines, source_lang=source, target_lang=target, beam=2,
                                     max_len_b=12, lenpen=0.0)
        scored = model(case).score(lines, [h[0].tokens for h in found], source_lang=source,
                                   target_lang=target)
        for h, s in zip(found, scored, strict=True):
            np.testing.assert_allclose(h[0].positional_scores, s.positional_scores, atol=1e-5)
            assert s.text == h[0].text
    said = model("mbart").score(texts("aa-bb", "aa")[:1], texts("aa-bb", "bb")[:1])
    assert said[0].tokens[-2:].tolist() == [2, model("mbart").task.target_vocab.index("[bb]")]


@pytest.mark.parametrize("case, given, message", [
    ("m2m", dict(source_lang="aa", target_lang="bd"), "no language 'bd'. Did you mean 'bb'"),
    ("m2m", dict(source_lang="xx", target_lang="bb"), "source_lang: the model knows no language"),
    ("m2m", dict(target_lang="bb"), "source_lang: say which language: the model knows aa, bb"),
    ("m2m", dict(), "source_lang: say which language"),
    ("mbart", dict(target_lang="dd"), "target_lang: the model knows no language 'dd'"),
])
def test_a_language_that_is_not_there_is_named(case, given, message):
    with pytest.raises(ConfigError, match=message):
        model(case).translate("aa1 aa2", **given)


def test_as_many_languages_as_inputs():
    with pytest.raises(ValueError, match="target_lang: 2 languages for 1 inputs"):
        model("mbart").generate(["aa1"], target_lang=["bb", "cc"])
    with pytest.raises(TypeError, match="target_lang"):
        model("mbart").generate(["aa1"], target_lang=[3])


def test_tasks_of_these_names_are_fairseqs():
    for name in ("translation_from_pretrained_bart", "translation_multi_simple_epoch"):
        entry = tasks.of_fairseq(name)
        assert entry is not None and entry.name == name
    assert tasks.entry_of("seq2seq").fairseq is None


def test_the_loaded_model_says_its_languages():
    assert "aa-bb" in model("mbart").describe()
    assert "aa-cc" in model("m2m").translating("aa", "cc").describe()
    assert seqjax.load is not None
