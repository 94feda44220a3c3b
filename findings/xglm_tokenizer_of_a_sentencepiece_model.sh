#!/usr/bin/env bash
# transformers' XGLMTokenizer made of a SentencePiece model alone knows no word: everything is <unk>.
#
# Published XGLM folders have `sentencepiece.bpe.model`. Given a folder with that file and no
# tokenizer.json, or the file itself as `vocab_file`, the class gives a tokenizer of a few special
# symbols and `<unk>` for every word, without a warning. XLMRobertaTokenizer reads the same folder
# rightly (its pieces are SentencePiece's own), but not the same file as `vocab_file`. What is to be
# done: read such folders with sentencepiece and place the pieces oneself.
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

import sentencepiece
import transformers
from transformers import XGLMTokenizer, XLMRobertaTokenizer

lines = ["hello world how are you", "the world is large", "hello you are here",
         "a large hello to the world"] * 20
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, vocab_size=26, num_threads=1,
    minloglevel=2)
pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).encode(
    "hello world", out_type=str)
print("transformers", transformers.__version__, "sentencepiece", sentencepiece.__version__)
print("SentencePiece itself:", pieces)
known = {}
with tempfile.TemporaryDirectory() as place:
    file = pathlib.Path(place) / "sentencepiece.bpe.model"
    file.write_bytes(model.getvalue())
    for cls in (XGLMTokenizer, XLMRobertaTokenizer):
        for how, made in (("its folder", cls.from_pretrained(place)),
                          ("vocab_file", cls(vocab_file=str(file)))):
            ids = made("hello world", add_special_tokens=False)["input_ids"]
            found = made.convert_ids_to_tokens(ids)
            known[cls.__name__, how] = found == pieces
            print(f"{cls.__name__} from {how}: {len(made)} symbols, {found}")
assert known == {
    ("XGLMTokenizer", "its folder"): False, ("XGLMTokenizer", "vocab_file"): False,
    ("XLMRobertaTokenizer", "its folder"): True, ("XLMRobertaTokenizer", "vocab_file"): False,
}, known
PY
echo "as described"
