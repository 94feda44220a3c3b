"""The small runs: that they fit together, and what they are measured against
(configs/small, scripts/real_runs)."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import tarfile
import wave

import pytest

from seqjax import config
from seqjax.settings import resolve


@pytest.fixture
def script(repository):
    def load(name):
        spec = importlib.util.spec_from_file_location(
            f"real_runs_{name}", repository / "scripts" / "real_runs" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    return load


def test_what_is_fine_tuned_is_what_was_pretrained(repository):
    small = repository / "configs" / "small"
    found = {file.stem: resolve(config.load_file(str(file))) for file in small.glob("*.py")}
    assert set(found) == {"denoising", "translation", "masked_lm", "questions", "gpt",
                          "recognition", "hubert", "speech_to_text", "speech_translation"}
    for before, after in (("denoising", "translation"), ("masked_lm", "questions")):
        old, new = (config.to_plain(found[name].model) for name in (before, after))
        other = {key for key in old if old[key] != new[key]}
        assert other <= {"dropout", "classification_heads"}, (before, other)
    form = {key: value for key, value in config.to_plain(found["hubert"].model).items()
            if key.startswith(("conv_", "encoder_", "extractor", "layer_norm"))}
    tuned = config.to_plain(found["recognition"].model)
    assert {key for key in form if tuned.get(key, form[key]) != form[key]} == set()
    for file in small.glob("*.py"):
        assert "scripts/real_runs/" in file.read_text(), f"{file}: no command"


def test_kneser_ney_gives_probabilities_and_prefers_what_was_seen(script):
    stream = [4, 5, 6, 4, 5, 7, 4, 5, 6, 2, 4, 6, 2, 5, 7, 6, 4] * 2 + [3, 8, 9, 2, 7]
    for order in (2, 3):
        model = script("baselines").KneserNey(stream, order, 12)
        for history in ([4, 5], [5, 6], [11, 11], [9, 2]):
            p = [model.probability((*history[len(history) - order + 1 :], w)) for w in range(12)]
            assert sum(p) == pytest.approx(1, abs=1e-12) and min(p) > 0
        assert model.probability((4, 5, 6)[-order:]) > 0.3
        assert model.perplexity(stream, order) < 8


def test_questions_are_split_by_book_and_have_lost_their_mark(script, tmp_path, capsys):
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["field"] * 5)
    for book in range(1, 21):
        for verse, line in enumerate((
                f'"Is book{book} now, {{a note}} here?" He said, "It is so in truth."',
                f"Who are you, then, in book{book}? Go out of the land. It's the men's own day.",
                "So he went and saw what was there.")):
            rows.writerow([f"{book}", book, 1, verse, line])
    raw = gzip.compress(text.getvalue().encode())
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("x/data/web/t_web.csv.gz")
        member.size = len(raw)
        tar.addfile(member, io.BytesIO(raw))
    script("text").questions(tmp_path, str(tmp_path / "a.tar.gz"))
    found = {name: list(zip(*((tmp_path / f"label.{name}.{end}").read_text().splitlines()
                              for end in ("input0", "label")), strict=True))
             for name in ("train", "valid", "test")}
    asked = {name: {s for s, label in rows if label == "1"} for name, rows in found.items()}
    assert asked["valid"] == {"is book3 now here", "who are you then in book3",
                              "is book13 now here", "who are you then in book13"}
    assert {s.split()[1] for s in asked["test"] if s[0] == "i"} == {
        "book5", "book10", "book15", "book20"}
    for name, rows in found.items():
        assert sum(label == "1" for _, label in rows) * 2 == len(rows)
        assert not any(set(s) & set('?.!,"{}') for s, _ in rows), name
    words = (tmp_path / "words.train").read_text()
    assert "book1 " in words and "men's" in words
    assert not any(f"book{n} " in words for n in (3, 5, 10, 13, 15, 20))


def test_prompts_are_split_by_their_english(script, tmp_path, capsys):
    audio = script("audio")
    for language in ("en", *audio.VOICES):
        notes = tmp_path / "in/usr/share/doc" / f"asterisk-core-sounds-{language}"
        notes.mkdir(parents=True)
        lines = ["; a note", "", "beep: [a tone]", "long: A long one"]
        lines += [f"k{i}: Say {chr(97 + i // 26)}{chr(97 + i % 26)}, please" for i in range(96)]
        (notes / f"core-sounds-{language}.txt.gz").write_bytes(
            gzip.compress("\n".join(lines).encode()))
    for voice in audio.VOICES.values():
        folder = tmp_path / "in/usr/share/asterisk/sounds" / voice
        folder.mkdir(parents=True)
        for key in ("beep", "long", *(f"k{i}" for i in range(96))):
            with wave.open(str(folder / f"{key}.wav"), "wb") as file:
                file.setparams((1, 2, 10, 0, "NONE", ""))
                file.writeframes(bytes(400 if key == "long" else 20))
    audio.asterisk(tmp_path / "out", tmp_path / "in")
    text = dict(line.split("\t") for line in (tmp_path / "out/texts").read_text().splitlines())
    said = {split: [text[file.stem] for file in (tmp_path / "out/clips" / split).iterdir()]
            for split in ("train", "valid", "seen", "new")}
    assert sum(map(len, said.values())) == len(text) == 4 * 96  # no tone, nothing of 20 seconds
    assert len(said["new"]) == 4 * 8 and len(said["seen"]) == len(said["valid"]) == 16
    assert not set(said["new"]) & set(said["train"] + said["seen"] + said["valid"])
    assert set(said["seen"]) | set(said["valid"]) <= set(said["train"])


def test_the_best_single_answer_is_found(script, tmp_path):
    baselines = script("baselines")
    (tmp_path / "train").write_text("a b c\na b\nc d e f\n")
    (tmp_path / "test").write_text("a b c\na c\na b\n")
    words = baselines.same_words(str(tmp_path / "train"), str(tmp_path / "test"))
    assert words["wer"] == {"score": 28.57, "transcript": "a b c", "of no word": 100.0}
    (tmp_path / "train").write_text("press the key now\n" * 3 + "press the other key now\nyes\n")
    (tmp_path / "test").write_text("press the other key now please\nyes\n")
    found = baselines.same_translation(str(tmp_path / "train"), str(tmp_path / "test"))
    assert found["chosen on training"]["translation"] == "press the key now"
    assert found["chosen on test"]["translation"] == "press the other key now"
    assert found["chosen on test"]["bleu"] > found["chosen on training"]["bleu"]


def test_curves_are_collected(script, tmp_path):
    run = tmp_path / "tuned.2"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({
        "seed": 2, "init_from": "runs/x/bart", "train": {"lr": [0.1], "max_update": 4}}))
    rows = [{"group": "train_inner", "num_updates": 2.0, "loss": 3.00004, "train_wall": 4.2},
            {"group": "valid", "num_updates": 2, "loss": 2.5, "ppl": 5.6569},
            {"group": "train_inner", "num_updates": 4.0, "loss": 2.0, "train_wall": 3.3},
            {"group": "valid", "num_updates": 4, "loss": 1.5, "ppl": 2.8284}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "test.json").write_text('$ python -m seqjax.score --json\n{"sacrebleu": 3.5}\n')
    (run / "test.greedy.hyp").write_text("a\nb\nc\nd\n")
    (run / "test.greedy.json").write_text('{"wer": 1.5}\n')
    assert script("collect").run_of(run) == {
        "seed": 2, "lr": [0.1], "max_update": 4, "init_from": "bart",
        "train": {"update": [2, 4], "loss": [3.0, 2.0]},
        "valid": {"update": [2, 4], "loss": [2.5, 1.5], "ppl": [5.6569, 2.8284]},
        "seconds": 8, "test": {"sacrebleu": 3.5},
        "test greedy": {"wer": 1.5, "first outputs": ["a", "b", "c"]}}
