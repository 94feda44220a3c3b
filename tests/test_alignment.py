"""Alignments of what was found, and unknown words replaced, against fairseq and by hand."""

from __future__ import annotations

import json

import family_goldens as goldens
import jax
import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint, write_untrained
from tiny_run import raw_config, resolve, write_data
from toy_models import ToyModel

import seqjax
from seqjax import generate, interactive
from seqjax.config import ConfigError, GenerationConfig
from seqjax.data.frames import Frame
from seqjax.generation import alignment
from seqjax.generation.alignment import Aligner
from seqjax.generation.decoder import Decoder
from seqjax.interop.fairseq import output as fairseq_output
from seqjax.tasks import replace_unk

RECORDED = sorted((goldens.FOLDER / "alignment").glob("*.json"))
TEXTS = ["aa1 aa2", "aa0", "aa3 strange aa5", "", "aa9 aa1 odd"]


# ---- as fairseq aligns ----


@pytest.fixture(scope="module", params=RECORDED, ids=lambda path: path.stem)
def case(request):
    recorded = json.loads(request.param.read_text())
    return recorded, goldens.load(recorded["model"])


def test_alignments_are_fairseqs(case):
    recorded, golden = case
    sources = [np.array(s) for s in recorded["sources"]]
    beam = recorded["beam"]
    config = GenerationConfig(beam=beam, nbest=beam, max_len_b=recorded["max_len_b"])
    parts = Decoder(golden.model, config).stream(golden.params, sources)
    aligner = Aligner(golden.model)
    found = {i: h for part in aligner.attach(parts, golden.params, sources, alignment="hard")
             for i, h in zip(part.indices, part.hypotheses, strict=True)}
    assert len(found) == len(sources) == len(recorded["hypos"])
    for i, hypotheses in found.items():
        wanted = recorded["hypos"][i]
        assert [h.tokens.tolist() for h in hypotheses] == [w["tokens"] for w in wanted]
        assert [h.alignment for h in hypotheses] == [
            [tuple(pair) for pair in w["alignment"]] for w in wanted]
        soft = aligner.attention(golden.params, [sources[i]] * beam, [h.tokens for h in hypotheses])
        for attention, w in zip(soft, wanted, strict=True):
            np.testing.assert_allclose(attention, np.array(w["attention"], float), atol=2e-6)


def test_batches_and_ensembles_change_nothing():
    golden = goldens.load("lstm/bidirectional")
    rng = np.random.default_rng(0)
    sources, targets = (
        [np.append(rng.integers(4, 16, n), 2) for n in rng.integers(0, 17, 9)] for _ in range(2))
    together = Aligner(golden.model, batch_size=4).attention(golden.params, sources, targets)
    twice = Aligner([golden.model] * 2).attention([golden.params] * 2, sources, targets)
    for a, b, source, target in zip(together, twice, sources, targets, strict=True):
        assert a.shape == (len(target), len(source))
        np.testing.assert_allclose(a.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_places_do_not_count_eos_or_padding():
    """The pairs of a pair with eos inside, from attention that is known."""
    class Known(Aligner):
        def _mean_attention(self, params, source, target, start):
            return jax.nn.one_hot(np.array([[4, 1, 1, 3, 0, 0]]), source.shape[1])

    aligner = Known(ToyModel())
    pairs = aligner._pairs(np.array([5, 2, 6, 1, 7, 2]), np.array([8, 2, 9, 2]),
                           np.array([4, 1, 2, 3]))
    assert pairs == [(2, 0), (1, 1)]
    assert aligner._pairs(np.array([2]), np.array([8, 2]), np.array([0, 0])) == []
    strongest = aligner._argmax((), np.array([[5, 2, 6, 1, 7, 2]]), np.array([[8, 2, 9, 2, 1, 1]]),
                                np.array([2]))
    assert np.asarray(strongest)[0, 0] == 4 and np.asarray(strongest)[0, 1] == 0


def test_a_model_without_attention_says_so():
    golden = goldens.load("lstm/tied_no_attention")
    with pytest.raises(ValueError, match="no attention to the source"):
        Aligner(golden.model).align(golden.params, [[5, 2]], [[6, 2]])
    with pytest.raises(ValueError, match="no attention to the source"):
        Aligner(golden.model).attach(iter([]), golden.params, [], unknown=3)  # before any search
    with pytest.raises(ValueError, match="1 sources but 2 targets"):
        Aligner(golden.model).align(golden.params, [[5, 2]], [[6, 2], [6, 2]])


def test_few_passes_for_many_small_parts(monkeypatch):
    """Hypotheses are collected; every sentence comes back once, with its own."""
    monkeypatch.setattr(alignment, "WAITING", 4)
    golden = goldens.load("lstm/bidirectional")
    sources = [np.array([4 + i, 5, 2]) for i in range(7)]
    parts = list(Decoder(golden.model, GenerationConfig(beam=1, max_len_b=4, batch_size=1)).stream(
        golden.params, sources))
    aligner, calls = Aligner(golden.model), []
    align = aligner.align
    monkeypatch.setattr(aligner, "align", lambda p, s, t, **more: (
        calls.append(len(s)) or align(p, s, t, **more)))
    found = list(aligner.attach(parts, golden.params, sources, alignment="hard"))
    assert calls == [4, 3] and sorted(i for part in found for i in part.indices) == [*range(7)]
    for part in found:
        for i, (h,) in zip(part.indices, part.hypotheses, strict=True):
            assert h.alignment == align(golden.params, [sources[i]], [h.tokens])[0]


# ---- a loaded model ----


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("align")
    data = write_data(root / "data")
    write_checkpoint(root / "run", data)
    (root / "in").write_text("\n".join(TEXTS) + "\n")
    return root


@pytest.fixture(scope="module")
def model(run):
    return seqjax.load(run / "run")


SEARCH = dict(beam=2, max_len_b=8, unkpen=-20.0)
"""The unknown word is what this model likes best."""


@pytest.fixture(scope="module")
def found(model):
    return model.generate(TEXTS, alignment="hard", **SEARCH)


def test_generate_gives_alignments(model, found):
    soft = model.generate(TEXTS, alignment="soft", **SEARCH)
    for text, (h,), (s,) in zip(TEXTS, found, soft, strict=True):
        source = model.encode(text)
        assert h.attention is None and s.alignment is None
        assert s.attention.shape == (len(s.tokens), len(source))
        strongest = s.attention[:-1, :-1].argmax(1) if len(source) > 1 else []
        assert h.alignment == [(int(k), t) for t, k in enumerate(strongest)]
        assert model.align([text], [h.tokens]) == [h.alignment]
    scored = model.score(TEXTS, [h.tokens for (h,) in found], alignment="hard")
    assert [h.alignment for h in scored] == [h.alignment for (h,) in found]
    with pytest.raises(ConfigError, match="replace_unk: 'words.txt' is neither True nor"):
        model.generate(TEXTS, replace_unk="words.txt")
    with pytest.raises(ConfigError, match="alignment: 'sort' is not 'hard' or 'soft'"):
        model.generate(TEXTS, alignment="sort")
    with pytest.raises(ValueError, match="align: 1 sources but 2 targets"):
        model.align(["aa1"], ["bb1", "bb2"])


def test_unknown_words_are_replaced(model, found):
    replaced = model.generate(TEXTS, replace_unk=True, **SEARCH)
    table = {"aa3": "three", "strange": "seltsam"}
    by_table = model.generate(TEXTS, replace_unk=table, **SEARCH)
    seen = set()
    for text, (h,), (r,), (t,) in zip(TEXTS, found, replaced, by_table, strict=True):
        assert r.tokens.tolist() == h.tokens.tolist()
        partner = {t: s for s, t in h.alignment}
        copied, looked_up = [], []
        for place, token in enumerate(h.tokens[:-1]):
            word = model.task.target_vocab[token]
            if word == "<unk>" and text:
                word = text.split()[partner[place]]
                seen.add(word)
            if word != "<s>":
                copied.append(word)
                looked_up.append(table.get(word, word) if token == 3 else word)
        assert r.words == copied and t.words == looked_up
        assert r.text == " ".join(r.words) and t.text == " ".join(t.words)
    assert {"strange", "aa3"} & seen
    assert model.translate(TEXTS, replace_unk=True, **SEARCH) == [r.text for (r,) in replaced]


# ---- replacing ----


class Pieces:
    """A tokenizer that cuts words into letters, the last one marked."""

    def encode(self, text):
        return " ".join(f"{' '.join(word)}_" for word in text.split())

    def decode(self, text):
        return text.replace(" ", "").replace("_", " ").strip()


class Task:
    def __init__(self, tokenizer, vocab):
        self.source_vocab = self.target_vocab = vocab
        self.source_tokenizer = self.target_tokenizer = tokenizer
        self.source_frame, self.unspoken_target = Frame.plain(vocab.eos), ()

    def framed_source(self, ids):
        return self.source_frame.put(ids)


def test_pieces_are_replaced_before_they_are_joined(model):
    vocab = type(model.task.source_vocab)(["a", "b_"])
    task = Task(Pieces(), vocab)
    words = replace_unk.source_words(task, "ab \N{SNOWMAN} </s>")
    assert words == ["a", "b_", "\N{SNOWMAN}_", "<", "/", "s", ">_"]
    tokens = [vocab.index("a"), 3, 3, vocab.index("b_"), 2]
    found = replace_unk.replaced_words(task, tokens, [(0, 0), (2, 1), (1, 3)], words, {})
    assert found == ["a", "\N{SNOWMAN}_", "<unk>", "b_"]
    assert replace_unk.join_words(task, found) == "a\N{SNOWMAN} <unk>b"
    assert replace_unk.source_words(task, [4, 3, 2]) == ["a", "<unk>"]
    plain = Task(None, vocab)
    assert replace_unk.source_words(plain, "a </s> x") == ["a", "x"]


def test_a_dictionary_of_aligned_words(tmp_path):
    (tmp_path / "words").write_text("das the\nHaus house 3\n")
    assert replace_unk.load_dictionary(tmp_path / "words") == {"das": "the", "Haus": "house"}
    (tmp_path / "words").write_text("das the\n\n")
    with pytest.raises(ConfigError, match=r"words: line 2: expected a source word and a target"):
        replace_unk.load_dictionary(tmp_path / "words")
    (tmp_path / "words").write_bytes(b"das \xe4\n")
    with pytest.raises(ConfigError, match="words: line 1 is not UTF-8"):
        replace_unk.load_dictionary(tmp_path / "words")


# ---- the commands ----


def command(run, *more):
    return ["--checkpoint", str(run / "run"), "--beam", "2", "--max-len-b", "8", "--unkpen", "-20",
            "--input", str(run / "in"), *more]


def test_jsonl_and_text(run, model, found, capsys):
    generate.main(command(run, "--format", "jsonl", "--print-alignment", "--replace-unk"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    replaced = model.generate(TEXTS, replace_unk=True, **SEARCH)
    for line, (h,), (r,) in zip(lines, found, replaced, strict=True):
        (result,) = line["hypotheses"]
        assert [tuple(pair) for pair in result["alignment"]] == h.alignment
        assert result["text"] == r.text and result["words"] == r.words
    generate.main(command(run, "--replace-unk"))
    assert capsys.readouterr().out.splitlines() == [r.text for (r,) in replaced]


def test_a_killed_job_keeps_alignments(run, found, monkeypatch):
    """What the journal holds is printed like the rest."""
    words = sorted({word for text in TEXTS for word in text.split()})
    (run / "words").write_text("".join(f"{word} seltsam\n" for word in words))
    out = run / "out"
    arguments = command(run, "--format", "fairseq", "--print-alignment", "--replace-unk",
                        str(run / "words"), "--output", str(out))
    generate.main(arguments)
    whole = shown(out)
    journal_add = generate.Journal.add
    monkeypatch.setattr(generate.Journal, "add", lambda self, index, hypotheses: (
        journal_add(self, index, hypotheses), 1 / (index != 1))[0])
    with pytest.raises(ZeroDivisionError):
        generate.main(arguments)
    monkeypatch.undo()
    generate.main(arguments)
    assert shown(out) == whole and any("seltsam" in text for _, text in whole)
    assert ("A-2", " ".join(f"{s}-{t}" for s, t in found[2][0].alignment)) in whole


def shown(path):
    """Names and texts of lines, without scores."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [(row[0], row[-1]) for row in rows if not row[0].startswith("P-")]


def test_interactive(run, model, capsys):
    interactive.main(command(run, "--format", "fairseq", "--print-alignment", "soft",
                             "--replace-unk", "--buffer-size", "3"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        f"{kind}-{i}" for i in range(5) for kind in "SWHDPA"]
    soft = model.generate(TEXTS, alignment="soft", replace_unk=True, decode_blank=True, **SEARCH)
    shown = [line.split("\t")[1] for line in lines if line.startswith("A-")]
    texts = [line.split("\t")[2] for line in lines if line.startswith("H-")]
    assert texts == [h.text for (h,) in soft]
    for line, (h,) in zip(shown, soft, strict=True):
        rows = [[float(p) for p in row.split(",")] for row in line.split(" ")]
        np.testing.assert_allclose(rows, h.attention, atol=1e-6)


@pytest.mark.parametrize(("more", "message"), [
    (["--print-alignment"], "needs a format that shows alignments"),
    (["--print-alignment", "warm", "--format", "jsonl"], "invalid choice: 'warm'"),
    (["--score-reference", "--replace-unk"], "nothing is generated"),
])
def test_mistakes_on_the_command_line(run, more, message, capsys):
    arguments = command(run, *more)
    if "--score-reference" in more:
        at = arguments.index("--input")
        arguments[at:at + 2] = ["--data", str(run / "data")]
    with pytest.raises(SystemExit):
        generate.main(arguments)
    assert message in capsys.readouterr().err
    if "--score-reference" not in more and "jsonl" not in more:
        with pytest.raises(SystemExit):
            interactive.main(arguments)


def test_a_missing_dictionary_is_found_before_the_model(run):
    with pytest.raises(FileNotFoundError):
        generate.main([*command(run, "--replace-unk", "nowhere.txt"), "--checkpoint", "no"])


@pytest.mark.parametrize(("model", "turns"), [("lstm", True), ("transformer", False)])
def test_generate_reads_attention_where_fairseq_has_the_padding(tmp_path, model, turns, capsys):
    """A- lines of a family that turns padding are at the places that tokens have behind it:
    a sentence's own, moved by how much its batch is longer."""
    raw = raw_config(write_data(tmp_path / "data"))
    if model == "lstm":
        raw["model"] = {"name": "lstm", "encoder_embed_dim": 8, "decoder_embed_dim": 8,
                        "decoder_out_embed_dim": 8}
    run = write_untrained(tmp_path / "run", resolve(raw), scale=3.0)
    arguments = ["--checkpoint", str(run), "--data", str(tmp_path / "data"), "--subset", "valid",
                 "--beam", "1", "--max-len-b", "4", "--print-alignment", "soft",
                 "--batch-size", "8"]
    generate.main([*arguments, "--format", "jsonl"])
    own = [np.array(json.loads(line)["hypotheses"][0]["attention"], np.float32)
           for line in capsys.readouterr().out.splitlines()]
    longest = max(attention.shape[1] for attention in own)
    assert len(own) == 8 and len({attention.shape[1] for attention in own}) > 2
    generate.main([*arguments, "--format", "fairseq"])
    lines = dict(line.split("\t") for line in capsys.readouterr().out.splitlines()
                 if line.startswith("A-"))
    for index, attention in enumerate(own):
        shown = [[float(p) for p in row.split(",")] for row in lines[f"A-{index}"].split(" ")]
        behind = longest - attention.shape[1] if turns else 0
        wanted = np.zeros_like(attention)
        wanted[:, :max(attention.shape[1] - behind, 0)] = attention[:, behind:]
        np.testing.assert_allclose(shown, wanted, atol=1e-6)


def test_fairseqs_reading_of_an_lstms_attention():
    """Two tokens and eos, and a batch two longer: fairseq looks behind the tokens."""
    attention = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], np.float32)
    result = {"attention": attention.tolist()}
    assert fairseq_output.alignment_text(result, "hard", padding=0) == "1-0 0-1"
    assert fairseq_output.alignment_text(result, "hard", padding=1) == "1-0 0-1"
    assert fairseq_output.alignment_text(result, "hard", padding=2) == "0-0 0-1"
    soft = fairseq_output.alignment_text(result, "soft", padding=2)
    assert soft.split()[0] == "0.700000,0.000000,0.000000"
