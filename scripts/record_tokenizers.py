"""Trains tiny tokenizers of each kind and records what transformers and fairseq make of text.

Needs two environments; seqjax and its tests need neither:

    python scripts/record_tokenizers.py huggingface tests/goldens/tokenizers
    python scripts/record_tokenizers.py fairseq tests/goldens/tokenizers

The first, with transformers 5, trains on `tests/goldens/preprocess` and writes `texts.json`
(lines of many kinds, ids to decode), a folder of files for each tokenizer, and
`huggingface.json`: per folder the ids of each line (`ids`), what they are decoded to
(`decoded`), one text and two with special ids around (`single`, `pair`, `types`). The second,
with fairseq, transformers 4 and tokenizers, writes `fairseq.json`: per `--bpe` the pieces of
each line, what they are decoded to, and which pieces begin a word.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import shutil
import tempfile
import unicodedata
from typing import Any

LINES = [
    "Hello world!", "I'm sure they'll say it's 5 o'clock, won't you?",
    "  two  spaces   three ", "tab\tand\u00a0no-break\u3000wide",
    "Grüße aus Köln, naïve café Ångström", "ÀÉÎÕÜ ß ẞ ŉ ﬁ ½ Ⅷ ²",
    "cafe\u0301 n\u0303 a\u0308", "日本語のテキストです。", "中文 and English混合",
    "한국어 텍스트", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก",
    "Привет, мир!", "👍🏽 👩‍👩‍👧 😀!", "1234567890 3.14 1,000", "a\u200bb\u200dc\ufeffd",
    "\u0001\u001f\u007f\u0085", "x\ufffdy\U0010fffez", "", " ", "'", "''s 'S don'T",
    "<s> </s> <unk> <pad>", "a <mask> b", "the king<mask> said <mask>.",
    "[CLS] [MASK] [SEP] [mask]", "Don't  judge .",
    "In the year that king Ahaz died was this burden .", "UPPER lower MiXeD", "e\u0301" * 5,
    "a" * 120, "...---...", "#hashtag @user http://a.b/c?d=e&f", "▁ low line ▁x",
    "@@ @-@ ##ing", ">>fra<< Good morning", ">>x y<<z", "__en__ __de__ x", "en_XX x de_DE",
    "(a) [b] {c}", "“quotes” ‘single’ — – …", "tail space ", "\u2028line\u2029para",
    "0\u0660\u0967\u4e00", "ﷺ ㍿ Å", "\\u0020 \\",
]
POOLS = [(32, 127), (160, 592), (0x300, 0x370), (0x370, 0x530), (0x5d0, 0x700), (0x900, 0x980),
         (0xe00, 0xe60), (0x2000, 0x2070), (0x3000, 0x3100), (0x4e00, 0x4e80), (0x1f300, 0x1f650)]


def texts() -> dict[str, Any]:
    """Lines, and words of ids in any order, most of which are no UTF-8."""
    rng = random.Random(7)
    lines = list(LINES)
    for _ in range(60):
        pools = [characters(*pool) for pool in rng.sample(POOLS, 2)]
        lines.append("".join(
            " " if rng.random() < 0.15 else rng.choice(rng.choice(pools))
            for _ in range(rng.randrange(1, 30))))
    ids = [[rng.randrange(600) for _ in range(rng.randrange(1, 12))] for _ in range(40)]
    return {"lines": lines, "ids": ids}


def characters(start: int, end: int) -> list[str]:
    """Those that are old enough for every library to agree on what they are."""
    known = unicodedata.ucd_3_2_0
    return [chr(c) for c in range(start, end)
            if known.category(chr(c)) != "Cn" or c > 0xffff and c < 0x1f600]


def corpus(folder: pathlib.Path) -> list[str]:
    lines = []
    for lang in ("en", "de"):
        text = (folder.parent / "preprocess" / f"train.{lang}").read_text(encoding="utf-8")
        lines += text.split("\n")[:400]
    return lines + LINES[:20] * 2


# ---- with transformers ----


def write_folders(folder: pathlib.Path) -> None:
    """The files of a tokenizer each, as models of these kinds are published."""
    import tokenizers as library
    import transformers

    lines = corpus(folder)
    byte_level = library.ByteLevelBPETokenizer()
    byte_level.train_from_iterator(
        lines, vocab_size=600, show_progress=False,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    made = folder / "vocab_merges"
    made.mkdir(parents=True)
    byte_level.save_model(str(made))
    config = {"tokenizer_class": "RobertaTokenizer"}
    (made / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    save(transformers.RobertaTokenizer.from_pretrained(made), folder / "roberta")

    pieces = library.BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(lines, vocab_size=600, show_progress=False)
    made = folder / "vocab_txt"
    made.mkdir()
    pieces.save_model(str(made))
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (made / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    save(transformers.BertTokenizer.from_pretrained(made), folder / "bert")
    sentencepieces(folder, lines)
    marian_and_m2m(folder, lines)
    fsmt(folder)


def save(tokenizer: Any, folder: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            content = json.loads((pathlib.Path(scratch) / name).read_text(encoding="utf-8"))
            compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
            (folder / name).write_text(compact + "\n", encoding="utf-8")


def train(lines: list[str], size: int) -> bytes:
    """A SentencePiece model without the 240 KB of a normaliser."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=size, minloglevel=2,
        normalization_rule_name="identity", num_threads=4, hard_vocab_limit=False)
    return model.getvalue()


def sentencepieces(folder: pathlib.Path, lines: list[str]) -> None:
    import transformers

    model = train(lines, 420)
    for name, cls, options in (
        ("xlmr", "XLMRobertaTokenizer", {}), ("camembert", "CamembertTokenizer", {}),
        ("mbart", "MBartTokenizer", {"src_lang": "en_XX"}),
    ):
        made = folder / f"{name}_spm"
        made.mkdir()
        (made / "sentencepiece.bpe.model").write_bytes(model)
        tokenizer = getattr(transformers, cls).from_pretrained(made, **options)
        config: dict[str, Any] = {"tokenizer_class": cls, **options}
        if name == "mbart":
            config["additional_special_tokens"] = transformers.models.mbart.tokenization_mbart \
                .FAIRSEQ_LANGUAGE_CODES
        (made / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
        if name == "xlmr":
            save(tokenizer, folder / name)


def marian_and_m2m(folder: pathlib.Path, lines: list[str]) -> None:
    import sentencepiece
    import transformers

    half = len(lines) // 2
    models = {"source": train(lines[:half], 300), "target": train(lines[half:], 300)}
    words = dict.fromkeys(["</s>", "<unk>"])
    for model in models.values():
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        # Not all of them: what is left out is unknown.
        words |= dict.fromkeys(processor.IdToPiece(i) for i in range(3, 280))
    words |= dict.fromkeys([">>fra<<", "<pad>"])
    made = folder / "marian"
    made.mkdir()
    for side, model in models.items():
        (made / f"{side}.spm").write_bytes(model)
    write_json(made / "vocab.json", {word: i for i, word in enumerate(words)})
    config = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "fr"}
    write_json(made / "tokenizer_config.json", config)

    made = folder / "m2m"
    made.mkdir()
    (made / "sentencepiece.bpe.model").write_bytes(models["source"])
    words = [w for w in words if w.strip("<>") not in ("s", "/s", "unk", "pad", "fra")]
    write_json(made / "vocab.json", {
        word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])})
    codes = transformers.models.m2m_100.tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"]
    config = {"tokenizer_class": "M2M100Tokenizer", "src_lang": "en", "tgt_lang": "de",
              "additional_special_tokens": [f"__{code}__" for code in codes]}
    write_json(made / "tokenizer_config.json", config)


def fsmt(folder: pathlib.Path) -> None:
    made = folder / "fsmt"
    made.mkdir()
    codes = (folder.parent / "preprocess" / "bpecodes").read_text(encoding="utf-8").split("\n")
    merges = [line for line in codes if line and not line.startswith("#")]
    (made / "merges.txt").write_text("".join(f"{m}\n" for m in merges), encoding="utf-8")
    parts = {p for m in merges for p in (*m.split(), m.replace(" ", ""))}
    letters = {c for p in parts for c in p.replace("</w>", "")}
    words = sorted(parts | letters | {f"{c}</w>" for c in letters} | {"&apos;</w>", "@-@</w>"})
    for side, order in (("src", words), ("tgt", words[::-1])):
        write_json(made / f"vocab-{side}.json", {
            word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *order])})
    config = {"tokenizer_class": "FSMTTokenizer", "langs": ["en", "de"], "do_lower_case": False}
    write_json(made / "tokenizer_config.json", config)


def write_json(path: pathlib.Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")


def record_huggingface(folder: pathlib.Path, lines: list[str]) -> dict[str, Any]:
    import transformers

    result = {}
    for made in sorted(path for path in folder.iterdir() if path.is_dir()):
        config = json.loads((made / "tokenizer_config.json").read_text(encoding="utf-8"))
        name = config["tokenizer_class"].replace("TokenizersBackend", "PreTrainedTokenizerFast")
        tokenizer = getattr(transformers, name).from_pretrained(made)
        ids = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines]
        pair = tokenizer(lines[0], lines[1])
        found = {
            "ids": ids,
            "decoded": [tokenizer.decode(row, skip_special_tokens=True,
                                         clean_up_tokenization_spaces=False) for row in ids],
            "single": tokenizer(lines[0])["input_ids"], "pair": pair["input_ids"],
            "types": pair.get("token_type_ids"), "class": type(tokenizer).__name__,
        }
        if made.name == "marian":
            found["target_ids"] = [
                tokenizer(text_target=line, add_special_tokens=False)["input_ids"]
                for line in lines]
        result[made.name] = found
    return result


# ---- with fairseq ----


def record_fairseq(folder: pathlib.Path, said: dict[str, Any]) -> dict[str, Any]:
    from fairseq.data import encoders

    files = folder / "vocab_merges"
    vocab, merges = str(files / "vocab.json"), str(files / "merges.txt")
    cases = {
        "gpt2": {"_name": "gpt2", "gpt2_encoder_json": vocab, "gpt2_vocab_bpe": merges},
        "hf_byte_bpe": {"_name": "hf_byte_bpe", "bpe_vocab": vocab, "bpe_merges": merges,
                        "bpe_add_prefix_space": True},
        "bert": {"_name": "bert", "bpe_vocab_file": str(folder / "vocab_txt" / "vocab.txt")},
        "bert_cased": {"_name": "bert", "bpe_vocab_file": str(folder / "vocab_txt" / "vocab.txt"),
                       "bpe_cased": True},
        "sentencepiece": {"_name": "sentencepiece", "sentencepiece_model":
                          str(folder / "xlmr_spm" / "sentencepiece.bpe.model")},
        "byte_bpe": {"_name": "byte_bpe", "sentencepiece_model_path":
                     str(folder / "xlmr_spm" / "sentencepiece.bpe.model")},
    }
    result = {}
    for name, options in cases.items():
        bpe = encoders.build_bpe(argparse.Namespace(**options, bpe=options["_name"]))
        encoded = [bpe.encode(line) for line in said["lines"]]
        found: dict[str, Any] = {"encoded": encoded, "decoded": [bpe.decode(e) for e in encoded]}
        if name == "gpt2":
            wild = [" ".join(map(str, row)) for row in said["ids"]]
            wild += [f"<mask> {wild[0]} <unk> {wild[1]}"]
            found |= {"wild": wild, "wild_decoded": [bpe.decode(row) for row in wild]}
        if name != "byte_bpe":
            pieces = sorted({piece for row in encoded for piece in row.split()})
            found["begins"] = [p for p in pieces if bpe.is_beginning_of_word(p)]
        result[name] = found
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["huggingface", "fairseq"])
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    if args.what == "huggingface":
        for old in args.folder.glob("*/"):
            shutil.rmtree(old)
        args.folder.mkdir(parents=True, exist_ok=True)
        said = texts()
        write_json(args.folder / "texts.json", said)
        write_folders(args.folder)
        found = record_huggingface(args.folder, said["lines"])
    else:
        said = json.loads((args.folder / "texts.json").read_text(encoding="utf-8"))
        found = record_fairseq(args.folder, said)
    write_json(args.folder / f"{args.what}.json", found)


if __name__ == "__main__":
    main()
