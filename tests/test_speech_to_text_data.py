"""Tables and config.yaml of speech to text: every key, texts, transforms, batches."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import zipfile

import numpy as np
import pytest
import soundfile
from audio_clips import clip
from conftest import ROOT

from seqjax.config import BatchingConfig, ConfigError
from seqjax.data.audio import filterbank, s2t_config, specaugment
from seqjax.data.audio.reading import AudioError, Reading, layer_norm, read_samples
from seqjax.data.audio.s2t import SpeechToTextDataset
from seqjax.data.audio.s2t_config import S2TDataConfig
from seqjax.data.audio.s2t_table import SpeechTable
from seqjax.data.audio.s2t_text import TargetText
from seqjax.data.epoch_plan import Shape
from seqjax.data.item_seed import item_seed
from seqjax.data.pipeline import epoch_batches, open_batches
from seqjax.data.planning import make_plan
from seqjax.data.sources import SourceError
from seqjax.data.vocabulary import VocabularyError

SAMPLES = (2000, 2960, 1500, 2480)
FRAMES = tuple((n - 400) // 160 + 1 for n in SAMPLES)
TEXTS = ("a b", "b c a", "c", "a a b")
HEADER = "id\taudio\tn_frames\ttgt_text\tspeaker\tsrc_lang\ttgt_lang"


def sound(i: int) -> np.ndarray:
    """[N] int16: what is in a file, without a loss."""
    return np.round(clip(i, SAMPLES[i]) * 2**15).astype(np.int16)


def features(i: int) -> np.ndarray:
    """[T, 80] of that, one padded length for all."""
    padded = np.pad(sound(i) / np.float32(2**15), (0, 3000 - SAMPLES[i]))
    return np.asarray(filterbank.log_mel(padded[None]))[0, :FRAMES[i]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four recordings: a wav, a flac in an archive, features, and a wav again."""
    root = tmp_path_factory.mktemp("s2t")
    for i in range(4):
        soundfile.write(root / f"{i}.wav", sound(i), 16000)
    soundfile.write(root / "1.flac", sound(1), 16000)
    with zipfile.ZipFile(root / "all.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(root / "1.flac", "1.flac")
        member = archive.infolist()[0]
    slice_ = f"all.zip:{member.header_offset + 30 + len('1.flac')}:{member.file_size}"
    np.save(root / "2.npy", features(2))
    audio = ("0.wav", slice_, "2.npy", "3.wav")
    rows = [f"u{i}\t{audio[i]}\t{FRAMES[i]}\t{TEXTS[i]}\tS{i % 2}\ten\tde" for i in range(4)]
    (root / "train.tsv").write_text("\n".join([HEADER, *rows]) + "\n")
    waves = [f"u{i}\t{i}.wav\t{SAMPLES[i]}\t{TEXTS[i]}\tS0\ten\tfr" for i in range(4)]
    (root / "waves.tsv").write_text("\n".join([HEADER, *waves]) + "\n")
    (root / "dict.txt").write_text("a 5\nb 4\nc 3\n<lang:de> 1\n<lang:fr> 1\n")
    (root / "speakers.txt").write_text("S0\nS1\n")
    return root


def config(folder, text="") -> S2TDataConfig:
    (folder / "config.yaml").write_text(f"audio_root: {folder}\n{text}")
    return S2TDataConfig.read(folder / "config.yaml")


def load(folder, text="", *, split="train", train=True, **options):
    found = config(folder, text)
    return SpeechToTextDataset.load(
        str(folder), split, found, texts=TargetText.load(str(folder), found), train=train,
        **{"reading": Reading(), **options})


def whole(dataset, rows=6, width=24, target=8):
    """Everything as one batch."""
    n = len(dataset)
    return dataset.materialise(np.arange(n), np.arange(n), Shape(rows, width, target))


@pytest.fixture(scope="module")
def fbanks():
    return [features(i) for i in range(4)]


# ---- config.yaml ----


def test_every_key_of_fairseqs(folder):
    (folder / "spm.model").write_text("")
    found = config(folder, """
vocab_filename: d.txt
speaker_set_filename: speakers.txt
shuffle: true
pre_tokenizer: {tokenizer: moses, source_lang: de}
bpe_tokenizer: {bpe: sentencepiece, sentencepiece_model: spm.model}
prepend_tgt_lang_tag: true
prepend_bos_and_append_tgt_lang_tag: true
input_feat_per_channel: 40
input_channels: 2
sample_rate: 8000
sampling_alpha: 0.5
use_audio_input: true
standardize_audio: true
use_sample_rate: 22050
global_cmvn: {stats_npz_path: /moved/spm.model}
specaugment: {freq_mask_N: 1, freq_mask_F: 27}
transforms: {'*': [utterance_cmvn], _train: [utterance_cmvn]}
feature_transforms: {_train: [specaugment], dev: [global_cmvn], _eval: []}
waveform_transforms: {_train: [musicaugment]}
dataset_transforms: {_train: [concataugment]}
vocoder: {type: hifigan}
hub: {x: y}
""")
    assert (found.vocab_filename, found.shuffle, found.features) == ("d.txt", True, 80)
    assert (found.sampling_alpha, found.use_sample_rate, found.sample_rate) == (0.5, 22050, 8000)
    assert found.bpe_tokenizer["sentencepiece_model"] == str(folder / "spm.model")
    assert found.options["global_cmvn"]["stats_npz_path"] == str(folder / "spm.model")
    assert found.transforms("feature", "x", train=True) == ("utterance_cmvn", "specaugment")
    assert found.transforms("feature", "dev", train=False) == ("global_cmvn",)
    assert found.transforms("feature", "x", train=False) == ()  # _eval is said to have none
    assert found.transforms("waveform", "x", train=True) == ("musicaugment",)
    assert found.transforms("dataset", "x", train=False) == ()
    plain = config(folder)
    own = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
    assert own == {**own, "vocab_filename": "dict.txt", "input_feat_per_channel": 80,
                   "sampling_alpha": 1.0, "use_audio_input": False, "audio_root": str(folder)}


@pytest.mark.parametrize(("text", "message"), [
    ("audio_rooot: x", "audio_rooot: unknown key. Did you mean 'audio_root'"),
    ("shuffle: maybe", "shuffle"),
    ("transforms: {'*': [specaugmnt]}", r"transforms.\*: 'specaugmnt' is unknown.*specaugment"),
    ("waveform_transforms: {'*': [specaugment]}", "waveform_transforms.*'specaugment' is unknown"),
    ("specaugment: 3", "specaugment: 3 is not a section"),
    ("pre_tokenizer: [", "config.yaml: while parsing"),
])
def test_config_that_is_wrong(folder, text, message):
    with pytest.raises(ConfigError, match=message):
        config(folder, text)


def test_keys_that_nobody_reads_are_named(folder, caplog):
    with caplog.at_level(logging.WARNING):
        config(folder, "remarks: mine\nfeatures: {type: x}")
    assert "not used: remarks, features" in caplog.text
    with pytest.raises(FileNotFoundError, match="speech to text needs a config.yaml"):
        S2TDataConfig.read(folder / "none.yaml")


@pytest.mark.parametrize(("text", "message"), [
    ("transforms: {'*': [specaugment]}\nspecaugment: {freq_mask_M: 1}",
     "specaugment.freq_mask_M: unknown key"),
    ("transforms: {'*': [specaugment]}\nspecaugment: {freq_mask_N: 1}", "freq_mask_F: 0"),
    ("transforms: {'*': [global_cmvn]}", "global_cmvn"),
    ("waveform_transforms: {'*': [musicaugment]}", "samples_path is needed"),
    ("dataset_transforms: {'*': [noisyoverlapaugment]}\nnoisyoverlapaugment: {noise_path: x}",
     "has no .wav files"),
    ("pre_tokenizer: {tokenizer: mooses}", "'mooses' is unknown"),
    ("bpe_tokenizer: {bpe: sentencepeace}", "'sentencepeace' is unknown"),
    ("bpe_tokenizer: {bpe: sentencepiece, sentencepiece_model: x.model}",
     r"needs sentencepiece_model \(x.model is no file\)"),
    ("speaker_set_filename: none.txt", "none.txt: no such file"),
])
def test_transforms_and_tokenizers_that_are_wrong(folder, text, message):
    with pytest.raises(ConfigError, match=message):
        load(folder, text)


# ---- tables ----


def test_table(folder):
    table = SpeechTable.read(folder / "train.tsv", audio_root=str(folder))
    assert (table.split, len(table)) == ("train", 4)
    assert table.columns["tgt_text"] == TEXTS and table.columns["src_text"] == ("",) * 4
    assert table.manifest.place(1) == f"{folder / 'train.tsv'}: line 3"


@pytest.mark.parametrize(("lines", "message"), [
    (["id\taudio\ttgt_text", "a\tb\tc"], "line 1 names no column n_frames"),
    ([HEADER, "a\tb\t12"], "t.tsv: line 2 has 3 columns, the header 7"),
    ([HEADER, "a\tb\t12\tc\td\te\tf", "a\tb\tx\tc\td\te\tf"], "t.tsv: line 3: audio is 'b' and"),
    ([HEADER], "has a header, but no rows")])
def test_table_that_is_wrong(tmp_path, lines, message):
    (tmp_path / "t.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError, match=message):
        SpeechTable.read(tmp_path / "t.tsv")


def test_quotes_mean_nothing(tmp_path):
    (tmp_path / "t.tsv").write_text(
        'id\taudio\tn_frames\ttgt_text\nu\tx.wav\t1\t"a\nv\ty.wav\t2\tb"c\n')
    assert SpeechTable.read(tmp_path / "t.tsv").columns["tgt_text"] == ('"a', 'b"c')


# ---- batches ----


def test_features_of_every_kind_of_file(folder, fbanks):
    dataset = load(folder, "speaker_set_filename: speakers.txt")
    assert dataset.lengths.source.tolist() == list(FRAMES)
    assert dataset.lengths.target.tolist() == [3, 4, 2, 4]
    batch = whole(dataset)
    assert batch["source"].shape == (6, 24, 80)
    assert batch["source_lengths"].tolist() == [*FRAMES, 0, 0]
    for i, expected in enumerate(fbanks):
        np.testing.assert_allclose(batch["source"][i, :FRAMES[i]], expected, atol=2e-4)
        assert not batch["source"][i, FRAMES[i]:].any()
    assert batch["target"][1].tolist() == [5, 6, 4, 2, 1, 1, 1, 1]
    assert batch["target_lengths"].tolist() == [3, 4, 2, 4, 0, 0]
    assert batch["speaker"].tolist() == [0, 1, 0, 1, 0, 0]


def test_language_tags(folder):
    dataset = load(folder, "prepend_tgt_lang_tag: true")
    assert whole(dataset)["target"][0].tolist()[:4] == [7, 4, 5, 2]
    dataset = load(folder, "prepend_bos_and_append_tgt_lang_tag: true")
    assert whole(dataset)["target"][0].tolist()[:5] == [0, 4, 5, 2, 7]
    (folder / "small.txt").write_text("a 1\n")
    with pytest.raises(ConfigError, match="no '<lang:de>'"):
        load(folder, "prepend_tgt_lang_tag: true\nvocab_filename: small.txt")
    (folder / "broken.txt").write_text("a\n")
    with pytest.raises(VocabularyError):
        load(folder, "vocab_filename: broken.txt")


MASKED = """
transforms: {_train: [utterance_cmvn, specaugment], _eval: [utterance_cmvn, delta_deltas]}
specaugment: {freq_mask_N: 2, freq_mask_F: 27, time_mask_N: 2, time_mask_T: 9, time_mask_p: 1.0}
"""


def test_transforms_are_a_function_of_seed_epoch_and_number(folder, fbanks):
    dataset = load(folder, MASKED, seed=3)
    batch = whole(dataset)
    part = specaugment.SpecAugment(**dataset.config.options["specaugment"])
    for i, plain in enumerate(fbanks):
        normal = (plain - plain.mean(0)) / plain.std(0)
        drawn = part.draw(len(plain), 80, np.random.RandomState(item_seed(3, 1, i)))
        expected = normal.copy()
        for begin, size in drawn["freq"]:
            expected[:, begin:begin + size] = normal.mean()
        for begin, size in drawn["time"]:
            expected[begin:begin + size] = normal.mean()
        np.testing.assert_allclose(batch["source"][i, :len(plain)], expected, atol=1e-3)
    alone = dataset.materialise(np.array([3]), np.array([0]), Shape(1, 24, 8))
    np.testing.assert_allclose(alone["source"][0], batch["source"][3], atol=1e-5)
    assert not np.array_equal(whole(dataset.at_epoch(2))["source"], batch["source"])
    np.testing.assert_array_equal(whole(dataset.at_epoch(1))["source"], batch["source"])
    assert whole(load(folder, MASKED, train=False))["source"].shape == (6, 24, 240)


def test_config_as_fairseqs_scripts_write_it(folder, caplog):
    """Its `time_wrap_W` and `win_length` are read by nobody."""
    load(folder, MASKED.replace("specaugment: {", "specaugment: {time_wrap_W: 0, "))
    assert "not used" not in caplog.text
    load(folder, MASKED.replace("specaugment: {", "specaugment: {time_wrap_W: 9, "))
    assert "specaugment.time_wrap_W is not used, as in fairseq, where it is 0" in caplog.text
    load(folder, MASKED + "delta_deltas: {win_length: 9}", train=False)
    assert "delta_deltas.win_length is not used" in caplog.text


def test_waveforms(folder, caplog):
    """fairseq standardises them whatever the key says, and does nothing to features then."""
    dataset = load(folder, "use_audio_input: true" + MASKED, split="waves")
    assert "waves: feature transforms are not used while use_audio_input is True" in caplog.text
    assert dataset.lengths.source.tolist() == list(SAMPLES)
    batch = whole(dataset, width=3000)
    expected = layer_norm(read_samples(str(folder / "3.wav"), Reading()))
    np.testing.assert_allclose(batch["source"][3, :SAMPLES[3]], expected, atol=1e-6)
    dataset = load(folder, "use_audio_input: true\nuse_sample_rate: 8000", split="waves")
    assert dataset.lengths.source.tolist() == [n // 2 for n in SAMPLES]
    with pytest.raises(AudioError, match="train.tsv: line 4: features, but use_audio_input"):
        load(folder, "use_audio_input: true")


def test_two_recordings_as_one(folder, fbanks):
    dataset = load(folder, "dataset_transforms: {_train: [concataugment]}\n"
                           "concataugment: {rate: 1.0, max_tokens: 60}")
    assert (dataset.lengths.source <= 59).all()
    batch = whole(dataset, width=64, target=16)
    joined = 0
    for i in range(4):
        size, text = batch["source_lengths"][i], batch["target"][i]
        assert size <= dataset.lengths.source[i]
        assert batch["target_lengths"][i] <= dataset.lengths.target[i]
        if size == FRAMES[i]:
            continue
        joined += 1
        other = FRAMES.index(size - FRAMES[i])
        np.testing.assert_allclose(batch["source"][i, FRAMES[i]:size], fbanks[other], atol=2e-4)
        words = " ".join([TEXTS[i], TEXTS[other]])
        assert dataset.texts.vocabulary.string(text[text != 1]) == words
    assert joined == 4


def test_noise_of_waveforms_reaches_features(folder, tmp_path):
    soundfile.write(tmp_path / "noise.wav", clip(30, 900), 16000)
    text = (f"waveform_transforms: {{_train: [musicaugment, speedaugment]}}\n"
            f"musicaugment: {{samples_path: {tmp_path}, rate: 1.0}}\n"
            "speedaugment: {factors: [0.8]}")
    dataset, plain = load(folder, text), load(folder)
    assert dataset.lengths.source[0] == (2500 - 400) // 160 + 1 > plain.lengths.source[0]
    batch = whole(dataset, width=32)
    assert batch["source_lengths"][0] in (13, 14) and batch["source_lengths"][2] == FRAMES[2]
    np.testing.assert_array_equal(whole(dataset, width=32)["source"], batch["source"])


def test_several_tables_and_sampling(folder):
    recorded = np.load(ROOT / "tests/goldens/audio/audio.npz")["ratios"]
    dataset = load(folder, "sampling_alpha: 0.5\nuse_audio_input: false", split="train,waves")
    mixture = dataset.mixture
    assert mixture is not None and len(dataset) == 8 and mixture.sizes == (4, 4)
    assert load(folder, "sampling_alpha: 1.0", split="train,waves").mixture is None
    assert load(folder, "sampling_alpha: 0.5", split="train,waves", train=False).mixture is None
    # The ratios of fairseq, of corpora of other lengths.
    for part, frames, pair in zip(
            dataset._parts * 2, ([10, 20, 30], [100, 400], [7, 8]), "xyx", strict=False):
        rows = len(frames)
        table = SpeechTable(split=pair, manifest=dataclasses.replace(
            part.table.manifest, names=part.table.manifest.names[:rows]), columns={
                "src_lang": ("en",) * rows, "tgt_lang": (pair,) * rows})
        dataset._parts.append(dataclasses.replace(
            part, table=table, ids=np.arange(rows), lengths=np.array(frames)))
    dataset._parts = dataset._parts[2:]
    del dataset.mixture
    sizes = np.array([3, 2, 2])
    found = np.array(dataset.mixture.weights) * sizes.sum() / sizes
    np.testing.assert_allclose(found, recorded, rtol=1e-6)


def test_bad_rows(folder, caplog):
    rows = (folder / "train.tsv").read_text().splitlines()
    np.save(folder / "narrow.npy", np.zeros((5, 40), np.float32))
    soundfile.write(folder / "short.wav", clip(1, 399), 16000)
    soundfile.write(folder / "slow.wav", clip(1, 900), 8000)
    bad = {"none.wav": "no such file", "narrow.npy": "frames of 40 features, config.yaml says 80",
           "short.wav": "399 samples are too short for a frame of 400",
           "slow.wav": "8000 samples a second, not 16000"}
    for name, message in bad.items():
        (folder / "bad.tsv").write_text("\n".join([
            *rows[:2], f"u\t{name}\t5\ta\tS0\ten\tde"]) + "\n")
        with pytest.raises(AudioError, match=f"bad.tsv: line 3: .*{message}"):
            load(folder, split="bad")
        dataset = load(folder, split="bad", reading=Reading(on_bad="skip"))
        assert len(dataset) == 1 and "1 of 2 recordings cannot be used" in caplog.text
        with pytest.raises(AudioError, match="bad.tsv: line 3"):
            whole(load(folder, split="bad", reading=Reading(check=False)))
    unchecked = load(folder, split="bad", reading=Reading(check=False, on_bad="skip"))
    assert whole(unchecked)["source_lengths"].tolist() == [FRAMES[0], 0, 0, 0, 0, 0]
    (folder / "bad.tsv").write_text("\n".join([rows[0], rows[1].replace("11", "5", 1)]) + "\n")
    with pytest.raises(AudioError, match="room for 8: is n_frames right"):
        whole(load(folder, split="bad", reading=Reading(check=False)), width=8)


def test_backends_and_order(folder):
    dataset = load(folder, MASKED + "shuffle: true", order_seed=4)
    batching = BatchingConfig(max_tokens=60, required_batch_size_multiple=1, num_shapes=2)
    plan = make_plan(dataset.lengths, batching, seed=2)
    both = []
    for backend in ("numpy", "tfdata"):
        with open_batches(plan, dataset, batching=dataclasses.replace(
                batching, backend=backend)) as batches:
            both.append(list(itertools.islice(batches, 5)))
    for a, b in zip(*both, strict=True):
        for key in a.arrays:
            np.testing.assert_array_equal(a.arrays[key], b.arrays[key])
    assert dataset.lengths.order.tolist() == np.argsort(-np.array(FRAMES)).tolist()
    fairseqs = make_plan(dataset.lengths, dataclasses.replace(batching, mode="fairseq"), seed=2)
    assert sum(b.nsentences for b in epoch_batches(fairseqs, dataset)) == 4


def test_the_kinds_are_those_of_config_yaml():
    from seqjax.data.audio.s2t import _feature_kinds

    assert set(_feature_kinds()) == set(s2t_config.FEATURE)
