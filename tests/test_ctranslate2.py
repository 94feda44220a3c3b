"""CTranslate2's own converter takes what `convert --to hf` writes, and its searches give the same.

Runs where ctranslate2, transformers and torch are installed (the extra `bench`).
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import seeded_folders

import seqjax
from seqjax import convert

ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra bench")
pytest.importorskip("transformers", reason="the extra bench")
pytest.importorskip("torch", reason="the extra bench")

TEXTS = ["Hello world!", "the king said", "A man is in the house ."]
CASES, _ = seeded_folders.recorded("languages")
TRANSLATORS = ["bart", "mbart50_json", "mbart25_json", "nllb_json", "m2m", "marian"]
GENERATORS = ["gpt2", "opt"]
TOKENS = 9
"""Of an output, the last one, eos, included."""


def converted(name, place):
    """Ours of the folder that was written, and CTranslate2's folder made of it."""
    case = CASES[name]
    if name.startswith("mbart"):  # as published ones say it; CTranslate2 asks it
        said = case["files"]["tokenizer_config.json"]["tokenizer_class"]
        case = {**case, "config": {**case["config"], "tokenizer_class": said}}
    ours = seqjax.load(seeded_folders.write(case, place / "folder"), quiet=True)
    ours.save(place / "run")  # by way of a folder of ours
    convert.main([str(place / "run"), "--to", "hf", str(place / "out")])
    command = shutil.which(
        "ct2-transformers-converter", path=str(pathlib.Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run(
        [command, "--model", str(place / "out"), "--output_dir", str(place / "ct2")],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return seqjax.load(place / "out", quiet=True), str(place / "ct2")


def symbols(vocabulary, ids):
    return [vocabulary[int(i)] for i in ids]


@pytest.mark.parametrize("name", TRANSLATORS)
@pytest.mark.parametrize("beam", [1, 3])
def test_translations_are_the_same(name, beam, tmp_path):
    ours, place = converted(name, tmp_path)
    case = CASES[name]
    more = {f"{side}_lang": case[side] for side in ("source", "target") if side in case}
    texts = [f">>fra<< {text}" for text in TEXTS] if name == "marian" else TEXTS
    task = ours.translating(**more).task if more else ours.task
    form, vocab = task.target_form, task.target_vocab
    sources = [symbols(task.source_vocab, task.encode_source(text)) for text in texts]
    first = list(form.first)
    if name.startswith("mbart25"):
        first = [form.start]
    prefix = [symbols(vocab, first)] * len(texts) if first else None
    found = ctranslate2.Translator(place).translate_batch(
        sources, target_prefix=prefix, beam_size=beam, max_decoding_length=TOKENS + 4,
        length_penalty=1.0, patience=1)
    best = [h[0].tokens for h in ours.generate(
        texts, beam=beam, nbest=1, max_len_b=TOKENS + 3, lenpen=1.0,
        early_stopping="true" if beam > 1 else "false", **more)]
    skip = 1 if name.startswith("mbart25") else 0
    for theirs, tokens in zip(found, best, strict=True):
        words = [w for w in symbols(vocab, tokens) if w != vocab[vocab.eos]]
        assert [w for w in theirs.hypotheses[0] if w != vocab[vocab.eos]][skip:] == words


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("beam", [1, 3])
def test_continuations_are_the_same(name, beam, tmp_path):
    ours, place = converted(name, tmp_path)
    vocab = ours.task.target_vocab
    best = [h[0].tokens for h in ours.generate(
        TEXTS, beam=beam, nbest=1, max_len_a=1.0, max_len_b=TOKENS, lenpen=0.0,
        early_stopping="true" if beam > 1 else "false")]
    starts = [ours.encode(text) for text in TEXTS]
    prompts = [symbols(vocab, [*ours.task.config.prompt_start, *(
        i for i in ids if i != vocab.eos)]) for ids in starts]
    found = ctranslate2.Generator(place).generate_batch(
        prompts, beam_size=beam, max_length=TOKENS + 2, sampling_topk=1, length_penalty=0.0)
    assert sum(len(t) for t in best) > sum(map(len, prompts))
    for theirs, tokens, prompt in zip(found, best, prompts, strict=True):
        words = [w for w in symbols(vocab, tokens)[len(prompt):] if w != vocab[vocab.eos]]
        given = [w for w in theirs.sequences[0][len(prompt):] if w != vocab[vocab.eos]]
        assert given[:len(words)] == words[:len(given)]
        assert np.abs(len(given) - len(words)) <= 1
