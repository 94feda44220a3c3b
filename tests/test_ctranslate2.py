"""CTranslate2's own converter takes what `convert --to hf` writes, and its searches give the same.

Runs where ctranslate2, transformers and torch are installed (the extra `bench`).
"""

from __future__ import annotations

import atexit
import functools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest
import seeded_folders
from safetensors.numpy import load_file, save_file

import seqjax
from seqjax import convert

ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra bench")
pytest.importorskip("transformers", reason="the extra bench")
pytest.importorskip("torch", reason="the extra bench")
TransformersConverter = pytest.importorskip("ctranslate2.converters").TransformersConverter

TEXTS = ["Hello world!", "the king said", "A man is in the house ."]
CASES, _ = seeded_folders.recorded("languages")
TRANSLATORS = ["bart", "mbart50_json", "mbart25_json", "nllb_json", "m2m", "marian"]
GENERATORS = ["gpt2", "opt"]
TOKENS = 9
"""Of an output, the last one, eos, included."""


def as_published(name):
    """A case with a row of each matrix for each symbol, as CTranslate2 counts them, and with the
    tokenizer's class, which it asks of an mBART."""
    case = CASES[name]
    config = dict(case["config"])
    size = config["vocab_size"]
    if name.startswith("mbart"):
        config["tokenizer_class"] = case["files"]["tokenizer_config.json"]["tokenizer_class"]
    if name == "marian":  # begins with the padding, which CTranslate2 has no row for
        pad = config["decoder_start_token_id"] = config["pad_token_id"]
        case = {**case, "generation": {
            **case["generation"], "decoder_start_token_id": pad, "bad_words_ids": [[pad]],
            "renormalize_logits": True}}
    if name == "nllb_json":
        return case
    rows = 600 if name == "m2m" else size - 3
    for key in ("vocab_size", "decoder_vocab_size"):
        if key in config:
            config[key] = rows
    shapes = {key: [rows if n == size else n for n in shape]
              for key, shape in case["shapes"].items()}
    return {**case, "config": config, "shapes": shapes}


@functools.cache
def converted(name, command=False):
    """Ours of the folder that was written, and CTranslate2's folder made of it."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="seqjax-ctranslate2-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    folder = seeded_folders.write(as_published(name), place / "folder")
    if name == "marian":  # whose padding is a zero embedding
        weights = load_file(folder / "model.safetensors")
        weights["model.shared.weight"][-1] = 0
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ours = seqjax.load(folder, quiet=True)
    ours.save(place / "run")  # by way of a folder of ours
    convert.main([str(place / "run"), "--to", "hf", str(place / "out")])
    if command:
        found = shutil.which(
            "ct2-transformers-converter", path=str(pathlib.Path(sys.executable).parent))
        assert found is not None
        done = subprocess.run(
            [found, "--model", str(place / "out"), "--output_dir", str(place / "ct2")],
            capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        TransformersConverter(str(place / "out")).convert(str(place / "ct2"))
    said = place / "ct2" / "config.json"
    config = json.loads(said.read_text())
    if name.startswith("mbart50") and config["bos_token"] is None:
        # of transformers' MBart50Tokenizer, which names none; CTranslate2 cannot read that
        said.write_text(json.dumps({**config, "bos_token": "<s>"}))
    return seqjax.load(place / "out", quiet=True), str(place / "ct2")


def symbols_of(place, side):
    """CTranslate2's, by id."""
    names = (f"{side}_vocabulary.json", "shared_vocabulary.json", "vocabulary.json")
    return json.loads(next(path for name in names if (
        path := pathlib.Path(place) / name).exists()).read_text())


def without_end(ids, vocab):
    return [int(i) for i in ids if i != vocab.eos]


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", TRANSLATORS)
def test_translations_are_the_same(name, beam):
    ours, place = converted(name, command=name == "bart")
    case = CASES[name]
    more = {f"{side}_lang": case[side] for side in ("source", "target") if side in case}
    texts = [f">>fra<< {text}" for text in TEXTS] if name == "marian" else TEXTS
    task = ours.translating(**more).task if more else ours.task
    form, vocab = task.target_form, task.target_vocab
    reads, writes = symbols_of(place, "source"), symbols_of(place, "target")
    sources = [[reads[i] for i in task.encode_source(text)] for text in texts]
    # an mBART-25 begins with the language, which CTranslate2 gives no place in an output
    first = [form.start] if name.startswith("mbart25") else list(form.first)
    prefix = [[writes[i] for i in first]] * len(texts) if first else None
    found = ctranslate2.Translator(place).translate_batch(
        sources, target_prefix=prefix, beam_size=beam, max_decoding_length=TOKENS + 4,
        length_penalty=1.0, patience=1)
    best = [h[0].tokens for h in ours.generate(
        texts, beam=beam, nbest=1, max_len_b=TOKENS + 3, lenpen=1.0,
        early_stopping="true" if beam > 1 else "false", **more)]
    for theirs, tokens in zip(found, best, strict=True):
        ids = map(writes.index, theirs.hypotheses[0])
        assert without_end(ids, vocab) == without_end(tokens, vocab)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", GENERATORS)
def test_continuations_are_the_same(name, beam):
    ours, place = converted(name)
    vocab, words = ours.task.target_vocab, symbols_of(place, "target")
    prompts = [[*ours.task.config.prompt_start, *without_end(ours.encode(text), vocab)]
               for text in TEXTS]
    found = ctranslate2.Generator(place).generate_batch(
        [[words[i] for i in prompt] for prompt in prompts], beam_size=beam,
        max_length=TOKENS + 2,  # ours counts from behind an eos of the prompt, and one more
        length_penalty=0.0, include_prompt_in_result=False)
    best = [h[0].tokens for h in ours.generate(
        prompts, beam=beam, nbest=1, max_len_a=1.0, max_len_b=TOKENS, lenpen=0.0,
        early_stopping="true" if beam > 1 else "false")]
    for theirs, tokens, prompt in zip(found, best, prompts, strict=True):
        assert tokens[:len(prompt)].tolist() == prompt
        ids = [words.index(word) for word in theirs.sequences[0]]
        assert ids == without_end(tokens[len(prompt):], vocab)
