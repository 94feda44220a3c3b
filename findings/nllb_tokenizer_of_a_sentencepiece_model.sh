#!/usr/bin/env bash
# transformers' NllbTokenizer made of a SentencePiece model alone has no languages: `<unk>` stands in
# their place.
#
# NLLB's 202 languages are the class's default (`NllbTokenizer()` has them), and a folder with
# `sentencepiece.bpe.model` and no list of special tokens was read with them until transformers 5.
# Now from_pretrained of such a folder gives the pieces alone. `src_lang="deu_Latn"` is taken
# without a warning, sources begin with `<unk>`, and the id of the language that is to be forced is
# <unk>'s, so that a model translates into no language that was asked for. MBart50Tokenizer of the
# same folder has its 52 languages. What is to be done: name the languages
# (`extra_special_tokens=`), or keep the folder's tokenizer.json or special_tokens_map.json.
#
# Seen with transformers 5.24.0, tokenizers 0.23.3, sentencepiece 0.2.3, Python 3.11. Fails if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
"$folder/venv/bin/python" - <<'PY'
import io
import pathlib
import tempfile
import warnings

import sentencepiece
import transformers
from transformers import MBart50Tokenizer, NllbTokenizer

lines = ["hello world how are you", "the world is large", "hello you are here",
         "a large hello to the world"] * 20
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, vocab_size=40, model_type="bpe",
    num_threads=1, minloglevel=2)
print("transformers", transformers.__version__, "sentencepiece", sentencepiece.__version__)
found = {}
with tempfile.TemporaryDirectory() as place:
    (pathlib.Path(place) / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    for name, cls, lang, more in (
        ("MBart50Tokenizer", MBart50Tokenizer, "de_DE", {}),
        ("NllbTokenizer", NllbTokenizer, "deu_Latn", {}),
        ("NllbTokenizer, told", NllbTokenizer, "deu_Latn",
         {"extra_special_tokens": ["deu_Latn", "eng_Latn"]}),
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            made = cls.from_pretrained(place, src_lang=lang, **more)
            pieces = made.convert_ids_to_tokens(made("hello world")["input_ids"])
        print(f"{name}: {len(made)} symbols, {pieces}, {lang} is "
              f"{made.convert_tokens_to_ids(lang)}, warnings: {len(said)}")
        found[name] = pieces[0], len(said)
made = NllbTokenizer()
print("NllbTokenizer():", len(made), "symbols, deu_Latn is", made.convert_tokens_to_ids("deu_Latn"))
assert made.convert_tokens_to_ids("deu_Latn") != made.unk_token_id
assert found == {"MBart50Tokenizer": ("de_DE", 0), "NllbTokenizer": ("<unk>", 0),
                 "NllbTokenizer, told": ("deu_Latn", 0)}, found
PY
echo "as described"
