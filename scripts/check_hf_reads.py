"""transformers loads the folders that seqjax writes, and computes the same with them.

Two environments, as no one has both: seqjax's, and one with transformers 5 and torch.

    python scripts/check_hf_reads.py write SOURCES OUT    # with seqjax: every folder of SOURCES
    python scripts/check_hf_reads.py read SOURCES OUT     # with transformers: loads OUT, compares
    python scripts/check_hf_reads.py encode MODEL OUT.npz  # with transformers: states of sentences
    python scripts/check_hf_reads.py compare MODEL OUT.npz # with seqjax: ours against them

SOURCES has folders with `outputs.npz` beside what transformers wrote
(scripts/record_huggingface.py).
`read` also runs CTranslate2's converter on those that translate, where it is installed. MODEL is a
folder of an encoder with its tokenizer, such as MiniLM's.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import packed

SENTENCES = [
    "Hello world!", "The cat sat on the mat.", "A man is playing a guitar on stage.",
    "Where is the nearest train station?", "It was the best of times, it was the worst of times.",
    "seqjax reads folders.", "Can you recommend a good restaurant in Zürich?", "42",
    "She sells sea shells by the sea shore.", "To be, or not to be: that is the question.",
    "The quick brown fox jumps over the lazy dog.", "I'd like a cup of tea, please.",
    "Deep learning for sequences of text and speech", "naïve café résumé", "Yes.",
    "An unexpectedly long sentence that goes on and on, so that rows of one batch have very "
    "different lengths and padding must not matter at all.", "What time is it?", "日本語も少し。",
    "Prices rose by 3.5% in March, the bank said on Tuesday.", "Good night, and good luck."]


def write(sources: pathlib.Path, out: pathlib.Path) -> None:
    from seqjax import convert

    for folder in sorted(f for f in sources.iterdir() if (f / "config.json").exists()):
        convert.main([str(packed.unpacked(folder)), "--to", "hf", str(out / folder.name)])


def read(sources: pathlib.Path, out: pathlib.Path) -> None:
    import torch
    import transformers

    for folder in sorted(out.iterdir()):
        recorded = np.load(sources / folder.name / "outputs.npz")
        config = json.loads((folder / "config.json").read_text())
        cls = getattr(transformers, config["architectures"][0])
        model, info = cls.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
        assert not any(info[key] for key in (
            "missing_keys", "unexpected_keys", "mismatched_keys")), (folder, info)
        source = torch.tensor(recorded["source"])
        inputs = {"input_ids": source, "attention_mask": (source != config["pad_token_id"]).long()}
        if "prev" in recorded:
            inputs["decoder_input_ids"] = torch.tensor(recorded["prev"])
        with torch.no_grad():
            result = model.eval()(**inputs, output_hidden_states=True)
        name = "logits" if "logits" in recorded else "encoder"
        states = result.logits if name == "logits" else (
            result.encoder_last_hidden_state if "prev" in recorded else result.hidden_states[-1])
        apart = np.abs(states.numpy() - recorded[name]).max()
        assert apart < 1e-5, (folder, apart)
        print(f"{folder.name}: transformers loads it; {name} differ by {apart:.1e}")
        if config.get("is_encoder_decoder") and (folder / "tokenizer.json").exists():
            _to_ctranslate2(folder)


def _to_ctranslate2(folder: pathlib.Path) -> None:
    import ctranslate2

    with tempfile.TemporaryDirectory() as scratch:
        target = pathlib.Path(scratch) / "ct2"
        ctranslate2.converters.TransformersConverter(str(folder)).convert(str(target))
        translator = ctranslate2.Translator(str(target))
        print(f"{folder.name}: CTranslate2 converts it, and translates:",
              translator.translate_batch([["<s>", "</s>"]], max_decoding_length=5)[0].hypotheses[0])


def encode(model: pathlib.Path, out: pathlib.Path) -> None:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    encoder = transformers.AutoModel.from_pretrained(model).eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder(**batch).last_hidden_state.numpy()
    np.savez(out, ids=batch["input_ids"].numpy(), mask=batch["attention_mask"].numpy(),
             states=states)


def compare(model: pathlib.Path, out: pathlib.Path) -> None:
    import seqjax
    from seqjax.data.tokenizers import HuggingFaceTokenizer

    recorded = np.load(out)
    tokenizer = HuggingFaceTokenizer(tokenizer_json=(model / "tokenizer.json").read_bytes())
    around = tokenizer.around()
    ids = [np.array(around.ids(tokenizer.encode_ids(text)), np.int32) for text in SENTENCES]
    theirs = [row[mask > 0] for row, mask in zip(recorded["ids"], recorded["mask"], strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(ids, theirs, strict=True)), "other ids"
    found = seqjax.load(model).features(ids)
    apart = max(np.abs(ours - states[:len(ours)]).max()
                for ours, states in zip(found, recorded["states"], strict=True))
    print(f"{model}: {len(ids)} sentences; ids are the same, states differ by {apart:.1e} at most")
    sys.exit(bool(apart > 1e-4))


def main() -> None:
    verb, *paths = sys.argv[1:]
    {"write": write, "read": read, "encode": encode, "compare": compare}[verb](
        *map(pathlib.Path, paths))


if __name__ == "__main__":
    main()
