"""Records what transformers does with folders of the shape in which models are published, whose
weights come from a seed (`tests/seeded_folders.py`), so that none are stored.

Needs transformers 5 and torch; seqjax and its tests need neither:

    python scripts/record_huggingface_seeded.py [heads search languages]

writes `tests/goldens/huggingface_seeded/TOPIC.npz`: `cases` (JSON in xz, see `seeded_folders`) and
what came out, as `CASE/NAME`.

- `heads`: encoders and a BART that classify. `CASE/ids` and `CASE/types` of single texts and pairs
  of `TEXTS` as the folder's tokenizer makes them (flat, `CASE/lengths`), `CASE/logits`, and of the
  encoders `CASE/states` (the last of the first pair).
- `search`: one model of each kind, and what `generate` gives under each `generation_config.json`.
- `languages`: texts as ids in each language, and translations, ids and text.
"""

from __future__ import annotations

import json
import lzma
import pathlib
import sys
import tempfile
import warnings
from typing import Any

import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import seeded_folders  # noqa: E402

TEXTS = ["Hello world!", "the king said", "A man is in the house ."]
PAIRS = [("Hello world!", "the king"), ("He was here", "the king said no ."), ("no", "it is")]
_ENCODER = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16,
                max_position_embeddings=60)
_SEQ2SEQ = dict(
    d_model=8, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=12, decoder_ffn_dim=12,
    encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=60)
SINUSOIDS = {f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")}


def shapes_of(cls: str, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """`config.json` and names and shapes of the tensors that a class writes."""
    kind = getattr(transformers, cls)
    model = kind(kind.config_class(**config))
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        from safetensors.numpy import load_file

        state = load_file(pathlib.Path(place) / "model.safetensors")
        said = json.loads((pathlib.Path(place) / "config.json").read_text())
    if said["model_type"] == "fsmt":  # published ones have no table of sinusoids
        state = {name: value for name, value in state.items() if name not in SINUSOIDS}
    return said, {name: list(value.shape) for name, value in state.items()}


def case(cls: str, config: dict[str, Any], *, seed: int = 0, **more: Any) -> dict[str, Any]:
    said, shapes = shapes_of(cls, config)
    return {"class": cls, "config": said, "shapes": shapes, "seed": seed, **more}


def loaded(folder: pathlib.Path, one: dict[str, Any]) -> Any:
    model, info = getattr(transformers, one["class"]).from_pretrained(
        folder, output_loading_info=True)
    info["missing_keys"] = set(info["missing_keys"]) - SINUSOIDS
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


# ---- heads ----

LABELS = {0: "contradiction", 1: "neutral", 2: "entailment"}
HEADS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertForSequenceClassification", dict(
        _ENCODER, vocab_size=600, type_vocab_size=2, id2label=LABELS,
        label2id={v: k for k, v in LABELS.items()}), "bert"),
    "bert_score": ("BertForSequenceClassification", dict(
        _ENCODER, vocab_size=600, num_labels=1, problem_type="regression"), "vocab_txt"),
    "bert_bare": ("BertModel", dict(_ENCODER, vocab_size=600), "bert"),
    "bert_xlmr": ("BertModel", dict(_ENCODER, vocab_size=430, pad_token_id=1), "xlmr"),
    "roberta": ("RobertaForSequenceClassification", dict(
        _ENCODER, vocab_size=600, id2label=LABELS, label2id={v: k for k, v in LABELS.items()},
        type_vocab_size=1, layer_norm_eps=1e-5), "roberta"),
    "xlmr": ("XLMRobertaForSequenceClassification", dict(
        _ENCODER, vocab_size=430, num_labels=4, problem_type="multi_label_classification",
        type_vocab_size=1), "xlmr"),
    "bart": ("BartForSequenceClassification", dict(
        _SEQ2SEQ, vocab_size=600, num_labels=3, id2label=LABELS,
        label2id={v: k for k, v in LABELS.items()}), "roberta"),
}


def heads() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    cases, arrays = {}, {}
    for name, (cls, config, tokenizer) in HEADS.items():
        one = cases[name] = case(cls, config, tokenizer=tokenizer, louder=1.5)
        with tempfile.TemporaryDirectory() as place:
            folder = seeded_folders.write(one, pathlib.Path(place) / name)
            model, words = loaded(folder, one), tokenizer_of(folder)
            given = [words(text) for text in TEXTS] + [words(*pair) for pair in PAIRS]
            ids = [np.array(g["input_ids"]) for g in given]
            types = [np.array(g.get("token_type_ids", [0] * len(i)))
                     for g, i in zip(given, ids, strict=True)]
            found, states = [], []
            for row, kinds in zip(ids, types, strict=True):
                more = {"token_type_ids": torch.tensor(kinds[None])} if "ert" in cls[:4] else {}
                if cls.startswith(("Bart", "XLM", "Roberta")):
                    more = {}
                with torch.no_grad():
                    out = model(input_ids=torch.tensor(row[None]), **more)
                if hasattr(out, "logits"):
                    found.append(out.logits[0].numpy())
                else:
                    states.append(out.last_hidden_state[0].numpy())
            arrays |= {f"{name}/ids": np.concatenate(ids).astype(np.int16),
                       f"{name}/types": np.concatenate(types).astype(np.int8),
                       f"{name}/lengths": np.array([len(i) for i in ids], np.int8)}
            if found:
                arrays[f"{name}/logits"] = np.stack(found)
            else:
                arrays[f"{name}/states"] = states[len(TEXTS)]
    return cases, arrays


def tokenizer_of(folder: pathlib.Path, **options: Any) -> Any:
    said = json.loads((folder / "tokenizer_config.json").read_text())
    name = said["tokenizer_class"].replace("TokenizersBackend", "PreTrainedTokenizerFast")
    return getattr(transformers, name).from_pretrained(folder, **options)


# ---- searches ----

_BART = dict(_SEQ2SEQ, vocab_size=30, max_position_embeddings=24)
_GPT2 = dict(vocab_size=30, n_embd=8, n_layer=2, n_head=2, n_positions=32, bos_token_id=2,
             eos_token_id=2, pad_token_id=1)
SOURCES = [[0, 9, 5, 9, 5, 12, 2], [0, 7, 2], [0, 4, 11, 6, 6, 2]]
PROMPTS = [[9, 5, 9], [2, 7], [2, 4, 11, 4, 11]]
SEARCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "repetition": {"repetition_penalty": 1.7},
    "bad_words": {"bad_words_ids": "FILLED"},
    "begin_suppress": {"begin_suppress_tokens": "FILLED", "suppress_tokens": "FILLED"},
    "forced_begin_suppress": {"forced_bos_token_id": 8, "begin_suppress_tokens": "FILLED"},
    "encoder_repetition": {"encoder_repetition_penalty": 1.6},
    "encoder_ngrams": {"encoder_no_repeat_ngram_size": 1},
    "ngrams": {"no_repeat_ngram_size": 2},
    "decay": {"exponential_decay_length_penalty": [3, 1.4]},
    "renormalized": {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2,
                     "renormalize_logits": True},
    "least_new": {"min_new_tokens": 6},
    "least": {"min_length": 7},
    "all": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "bad_words_ids": "FILLED",
            "begin_suppress_tokens": "FILLED", "min_length": 5, "length_penalty": 0.6},
}
"""Name -> keys of `generation_config.json`. What is FILLED is made of what `plain` gave, so that
it matters."""
NEW = 12


def filled(key: str, plain: list[list[int]]) -> Any:
    """A value for a key that changes the outputs that there would be."""
    from collections import Counter

    first = [row[0] for row in plain]
    pairs = Counter(p for row in plain for p in zip(row, row[1:], strict=False) if 2 not in p)
    triples = Counter(p for row in plain for p in zip(row, row[1:], row[2:], strict=False)
                      if 2 not in p)
    words = Counter(t for row in plain for t in row if t != 2)
    if key == "bad_words_ids":
        return [list(pairs.most_common()[0][0]), list(triples.most_common()[-1][0]),
                [words.most_common()[-1][0]], [2]]
    if key == "begin_suppress_tokens":
        return sorted(set(first))
    return [words.most_common()[0][0]]


def search() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    cases, arrays = {}, {}
    for name, cls, config in (("bart", "BartForConditionalGeneration", _BART),
                              ("gpt2", "GPT2LMHeadModel", _GPT2)):
        best = max(range(12), key=lambda seed: variety(name, cls, config, seed))
        one = case(cls, config, seed=best, searches={}, tokenizer=None)
        for beams in (1, 3):
            plain = None
            for key, asked in SEARCHES.items():
                if name == "gpt2" and key.startswith(("encoder", "forced")):
                    continue
                asked = {k: filled(k, plain) if v == "FILLED" else v for k, v in asked.items()}
                said = {"num_beams": beams, "num_return_sequences": min(beams, 2),
                        "max_new_tokens": NEW, "pad_token_id": 1, "eos_token_id": 2,
                        "bos_token_id": 0, **asked}
                if name == "bart":
                    said["decoder_start_token_id"] = 2
                rows, scores = generated(one, said, name)
                plain = plain or rows[::min(beams, 2)]
                one["searches"][f"{key}{beams}"] = said
                arrays[f"{name}/{key}{beams}/tokens"] = padded(rows)
                if scores is not None:
                    arrays[f"{name}/{key}{beams}/scores"] = scores
                print(name, key, beams, rows[::min(beams, 2)])
        cases[name] = one
    return cases, arrays


def variety(name: str, cls: str, config: dict[str, Any], seed: int) -> int:
    said = {"num_beams": 3, "max_new_tokens": NEW, "pad_token_id": 1, "eos_token_id": 2}
    if name == "bart":
        said["decoder_start_token_id"] = 2
    rows, _ = generated(case(cls, config, seed=seed), said, name)
    return sum(len(set(row)) for row in rows) + 3 * sum(2 in row for row in rows)


def generated(
    one: dict[str, Any], said: dict[str, Any], name: str
) -> tuple[list[list[int]], np.ndarray | None]:
    """What comes after the first token or the prompt, up to the first end, one input at a time."""
    given = SOURCES if name == "bart" else PROMPTS
    rows, scores = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = seeded_folders.write({**one, "generation": said}, pathlib.Path(place) / name)
        model = loaded(folder, one)
        eos = said["eos_token_id"]
        for ids in given:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = model.generate(
                    input_ids=torch.tensor([ids]), return_dict_in_generate=True,
                    attention_mask=torch.ones(1, len(ids), dtype=torch.long), output_scores=True)
            skip = 1 if name == "bart" else len(ids)
            for row in out.sequences.numpy()[:, skip:].tolist():
                stop = next((i for i, t in enumerate(row) if t == eos), len(row))
                rows.append(row[:stop + 1])
            if said["num_beams"] > 1:
                scores += out.sequences_scores.tolist()
    return rows, np.array(scores, np.float32) if scores else None


def padded(rows: list[list[int]]) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), -1, np.int16)
    for i, row in enumerate(rows):
        out[i, :len(row)] = row
    return out


# ---- languages ----


def published(tokenizer: str, **config: Any) -> dict[str, Any]:
    """Files of a folder with a tokenizer that is no `tokenizer.json`."""
    return {"tokenizer": tokenizer, "files": {"tokenizer_config.json": config}}


_WORDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def languages_cases() -> dict[str, dict[str, Any]]:
    mbart = dict(_SEQ2SEQ, scale_embedding=True, activation_function="relu")
    nllb = ["ace_Arab", "deu_Latn", "eng_Latn", "fra_Latn", "zul_Latn"]
    m2m = json.loads((seeded_folders.GOLDENS / "tokenizers/m2m/tokenizer_config.json").read_text())
    return {
        "mbart50_spm": dict(
            cls="MBartForConditionalGeneration", config=mbart, source="en_XX", target="de_DE",
            **published("mbart_spm", tokenizer_class="MBart50Tokenizer", src_lang=None)),
        "mbart50_json": dict(
            cls="MBartForConditionalGeneration", config=mbart, source="fr_XX", target="en_XX",
            saved=True,
            **published("mbart_spm", tokenizer_class="MBart50Tokenizer", src_lang="en_XX")),
        "mbart25_spm": dict(
            cls="MBartForConditionalGeneration", config=mbart, source="en_XX", target="ro_RO",
            **published("mbart_spm", tokenizer_class="MBartTokenizer")),
        "mbart25_json": dict(
            cls="MBartForConditionalGeneration", config=mbart, source="de_DE", target="en_XX",
            saved=True,
            **published("mbart_spm", tokenizer_class="MBartTokenizer", src_lang="en_XX")),
        "nllb_json": dict(
            cls="M2M100ForConditionalGeneration", config=mbart, source="eng_Latn",
            target="deu_Latn", saved=True, languages=nllb,
            **published("mbart_spm", tokenizer_class="NllbTokenizer", src_lang="fra_Latn",
                        extra_special_tokens=nllb)),
        "nllb_legacy_json": dict(
            cls="M2M100ForConditionalGeneration", config=mbart, source="deu_Latn",
            target="fra_Latn", saved=True, languages=nllb,
            **published("mbart_spm", tokenizer_class="NllbTokenizer", src_lang="eng_Latn",
                        legacy_behaviour=True, extra_special_tokens=nllb)),
        "m2m": dict(
            cls="M2M100ForConditionalGeneration", config=mbart, source="en", target="de",
            **published("m2m", **m2m)),
        "marian": dict(
            cls="MarianMTModel", config=dict(mbart, pad_token_id=0, eos_token_id=0,
                                             decoder_start_token_id=0),
            **published("marian", tokenizer_class="MarianTokenizer", source_lang="en",
                        target_lang="roa")),
        "fsmt": dict(
            cls="FSMTForConditionalGeneration", config=dict(mbart, langs=["en", "de"]),
            **published("fsmt", tokenizer_class="FSMTTokenizer", langs=["en", "de"],
                        do_lower_case=False)),
        "bart": dict(
            cls="BartForConditionalGeneration", config=dict(_SEQ2SEQ), tokenizer="roberta"),
        "gpt2": dict(
            cls="GPT2LMHeadModel", config=dict(n_embd=8, n_layer=2, n_head=2, n_positions=60),
            **published("vocab_merges", tokenizer_class="GPT2Tokenizer", **_WORDS)),
        "opt": dict(
            cls="OPTForCausalLM", config=dict(
                hidden_size=8, ffn_dim=12, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=60),
            **published("vocab_merges", tokenizer_class="GPT2Tokenizer", add_bos_token=True,
                        **{**_WORDS, "bos_token": "</s>"})),
        "xglm": dict(
            cls="XGLMForCausalLM", config=dict(
                d_model=8, ffn_dim=12, num_layers=2, attention_heads=2,
                max_position_embeddings=60), saved=True,
            **published("xglm_json", tokenizer_class="XGLMTokenizer")),
    }


def xglm_words() -> dict[str, Any]:
    """A `tokenizer.json` as XGLM's: XLM-R's pieces behind one `</s>`."""
    path = seeded_folders.GOLDENS / "tokenizers" / "xlmr" / "tokenizer.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    first, second = ({"Sequence": {"id": part, "type_id": 0}} for part in "AB")
    made["post_processor"] = {
        "type": "TemplateProcessing", "single": [end, first],
        "pair": [end, first, end, end, second],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    return made


def languages() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    cases, arrays = {}, {}
    for name, about in languages_cases().items():
        about = dict(about)
        cls, config = about.pop("cls"), about.pop("config")
        with tempfile.TemporaryDirectory() as place:
            root = pathlib.Path(place)
            (root / "words").mkdir()
            if name == "xglm":
                about["tokenizer"] = "xlmr"
                about["files"]["tokenizer.json"] = xglm_words()
            seeded_folders.write_tokenizer(about, root / "words")
            words = tokenizer_of(root / "words")
            if about.pop("saved", False):
                words.save_pretrained(root / "saved")
                about = {**about, "tokenizer": None, "files": {
                    f.name: json.loads(f.read_text()) for f in (root / "saved").iterdir()}}
            print(name, len(words), words(TEXTS[0])["input_ids"])
            size = len(words)
            if name == "fsmt":
                config |= {"src_vocab_size": size, "tgt_vocab_size": size}
            else:
                config["vocab_size"] = size + 3
            eos = words.sep_token_id if name == "fsmt" else words.eos_token_id
            config |= {"pad_token_id": words.pad_token_id, "eos_token_id": eos}
            one = case(cls, config, **about)
            one["generation"] = {
                "num_beams": 3, "max_new_tokens": 8, "early_stopping": True, "bos_token_id": 0,
                "eos_token_id": config["eos_token_id"], "pad_token_id": config["pad_token_id"]}
            if not cls.endswith(("LM", "LMHeadModel")) and not name.startswith("mbart25"):
                one["generation"]["decoder_start_token_id"] = config["eos_token_id"]
            cases[name] = one
            folder = seeded_folders.write(one, root / "folder")
            arrays |= {f"{name}/{k}": v for k, v in translated(folder, one).items()}
    return cases, arrays


def translated(folder: pathlib.Path, one: dict[str, Any]) -> dict[str, np.ndarray]:
    more: dict[str, Any] = {}
    words = tokenizer_of(folder)
    if "source" in one:
        words.src_lang = one["source"]
        target = words.convert_tokens_to_ids(
            f"__{one['target']}__" if one["tokenizer"] == "m2m" else one["target"])
        assert target != words.unk_token_id
        key = "decoder_start_token_id" if "MBartTokenizer" in str(one["files"][
            "tokenizer_config.json"]["tokenizer_class"]) else "forced_bos_token_id"
        more[key] = target
    model = loaded(folder, one)
    texts = [f">>fra<< {t}" for t in TEXTS] if one["tokenizer"] == "marian" else TEXTS
    rows, outputs, said = [], [], []
    for text in texts:
        given = words(text, return_tensors="pt")
        rows.append(given["input_ids"][0].tolist())
        with torch.no_grad():
            out = model.generate(
                **{k: v for k, v in given.items() if k != "token_type_ids"}, **more)
        row = out[0].tolist()
        row = row[1:] if model.config.is_encoder_decoder else row[len(rows[-1]):]
        stop = next((i for i, t in enumerate(row) if t == model.config.eos_token_id), len(row))
        outputs.append(row[:stop + 1])
        said.append(words.decode(row, skip_special_tokens=True))
    print(rows[0], outputs, said)
    return {"ids": padded(rows), "outputs": padded(outputs), "texts": np.array(json.dumps(said))}


transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def main() -> None:
    topics = {"heads": heads, "search": search, "languages": languages}
    seeded_folders.SEEDED.mkdir(exist_ok=True)
    for topic in sys.argv[1:] or topics:
        cases, arrays = topics[topic]()
        path = seeded_folders.SEEDED / f"{topic}.npz"
        text = json.dumps(cases, ensure_ascii=False, separators=(",", ":")).encode()
        packed = np.frombuffer(lzma.compress(text, preset=9), np.uint8)
        np.savez_compressed(path, cases=packed, **arrays)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
