"""Recordings as data: manifests, labels, files good and bad, and batches of waveforms."""

from __future__ import annotations

import itertools
import logging
import zipfile

import numpy as np
import pytest
import soundfile
from audio_clips import clip

from seqjax.config import BatchingConfig
from seqjax.data.audio import labels, manifests, reading
from seqjax.data.audio.augmentation import SpeedAugment
from seqjax.data.audio.datasets import AudioDataset, Clips
from seqjax.data.audio.reading import AudioError, Reading
from seqjax.data.epoch_plan import Shape
from seqjax.data.pipeline import epoch_batches, open_batches
from seqjax.data.planning import make_plan
from seqjax.data.sources import SourceError
from seqjax.data.vocabulary import Vocabulary

SIZES = (1600, 900, 3200, 2000, 2400, 1200, 700, 2800)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight recordings, their manifest, letters, and one label a hundredth of a second."""
    root = tmp_path_factory.mktemp("audio")
    (root / "wav").mkdir()
    for i, size in enumerate(SIZES):
        soundfile.write(root / "wav" / f"{i}.wav", clip(i, size), 16000)
    lines = [f"{i}.wav\t{size}\n" for i, size in enumerate(SIZES)]
    (root / "train.tsv").write_text(f"{root / 'wav'}\n" + "".join(lines))
    (root / "train.ltr").write_text("".join(f"{'A ' * (i % 3 + 1)}|\n" for i in range(8)))
    (root / "dict.ltr.txt").write_text("| 9\nA 8\n")
    (root / "train.km").write_text("".join(
        " ".join(str(k) for k in range(size // 160)) + "\n" for size in SIZES))
    (root / "dict.km.txt").write_text("".join(f"{k} 1\n" for k in range(20)))
    return root


@pytest.fixture
def manifest(folder):
    return manifests.AudioManifest.read(folder / "train.tsv")


def letters(manifest, **options):
    return labels.load_labels(manifest, "ltr", **options)


# ---- manifests and labels ----


def test_manifest_as_it_is_written(folder, manifest):
    assert len(manifest) == 8 and manifest.frames.tolist() == list(SIZES)
    assert manifest.text() == (folder / "train.tsv").read_text()
    assert manifest.place(2) == f"{folder / 'train.tsv'}: line 4"
    assert manifest.within(1000, 2500).tolist() == [0, 3, 4, 5]
    with pytest.raises(SourceError, match="none of 8 recordings has 9000 to"):
        manifest.within(9000)


@pytest.mark.parametrize(("text", "message"), [
    ("/root\na.wav\t12\nb.wav 13\n", r"m.tsv: line 3 is 'b.wav 13'; expected a path, a tab"),
    ("/root\na.wav\tmany\n", "m.tsv: line 2 is"),
    ("/root\n", "m.tsv: expected a folder in line 1"),
    ("a.wav\t12\nb.wav\t12\n", "m.tsv: expected a folder in line 1"),
    ("", "m.tsv: expected a folder in line 1")])
def test_manifest_that_is_none(tmp_path, text, message):
    (tmp_path / "m.tsv").write_text(text)
    with pytest.raises(SourceError, match=message):
        manifests.AudioManifest.read(tmp_path / "m.tsv")


def test_a_relative_root_is_found_beside_the_manifest(folder, monkeypatch):
    (folder / "lists").mkdir(exist_ok=True)
    (folder / "lists" / "m.tsv").write_text("wav\n0.wav\t1600\n")
    monkeypatch.chdir(folder)
    assert manifests.AudioManifest.read("lists/m.tsv").root == "wav"
    monkeypatch.chdir("/")
    found = manifests.AudioManifest.read(folder / "lists" / "m.tsv")
    assert reading.read_head(found.file(0)).length == 1600
    (folder / "wav" / "all.zip").write_bytes((folder / "wav" / "0.wav").read_bytes())
    assert manifests.find_root("wav", str(folder / "lists" / "m.tsv"), "all.zip:0:9") == str(
        folder / "wav")


def test_labels_line_by_line(folder, manifest):
    found = letters(manifest)
    assert found.ids(1).tolist() == [5, 5, 4] and found.counts.tolist() == [
        2, 3, 4, 2, 3, 4, 2, 3]
    seq2seq = letters(manifest, append_eos=True)
    assert seq2seq.ids(0).tolist() == [5, 4, 2] and seq2seq.counts[0] == 3
    (folder / "short.ltr").write_text("A |\nA |\n")
    with pytest.raises(SourceError, match=r"train.tsv lists 8 recordings, but \S*short.ltr has 2"):
        labels.LabelFile.read(manifest, str(folder / "short.ltr"))
    with pytest.raises(ValueError, match="label_rate: 0"):
        letters(manifest, rate=0.0)
    (folder / "bad.ltr").write_bytes(b"A |\n" * 7 + b"\xff\n")
    broken = labels.LabelFile.read(manifest, str(folder / "bad.ltr"))
    with pytest.raises(SourceError, match="bad.ltr: line 8 is not UTF-8"):
        broken.line(7)


def test_labels_of_frames_are_cut_as_fairseqs(folder, manifest):
    from conftest import ROOT

    recorded = np.load(ROOT / "tests/goldens/audio/audio.npz")
    file = labels.LabelFile.read(manifest, str(folder / "train.km"))
    for rate in (50.0, 100.0):
        part = labels.Labels(file=file, vocabulary=Vocabulary(), rate=rate)
        first, lengths = recorded[f"labels_{int(rate)}"]
        for start, begin, length in zip(recorded["starts"], first, lengths, strict=True):
            found = np.arange(120)[slice(*np.cumsum(part.span(int(start), 20000, 16000)))]
            # fairseq's padding (1) where nothing is left
            assert len(found) == length and (not length or found[0] == begin)


def test_durations_that_differ_are_said(folder, manifest, caplog):
    file = labels.LabelFile.read(manifest, str(folder / "train.km"))
    with caplog.at_level(logging.WARNING):
        wrong = labels.Labels(file=file, vocabulary=Vocabulary(), rate=50.0).check_durations(
            manifest, np.arange(8), manifest.frames, 16000)
    assert wrong == 4 and "line 4 has 0.20 s, line 3 of" in caplog.text
    assert labels.Labels(file=file, vocabulary=Vocabulary(), rate=100.0).check_durations(
        manifest, np.arange(8), manifest.frames, 16000) == 0


# ---- files ----


@pytest.mark.parametrize(("name", "subtype", "step"), [
    ("a.wav", "PCM_U8", 2**-7), ("a.wav", "PCM_16", 2**-15), ("a.wav", "PCM_24", 2**-23),
    ("a.wav", "PCM_32", 2**-24), ("a.wav", "FLOAT", 0.0), ("a.wav", "DOUBLE", 2**-24),
    ("a.flac", "PCM_16", 2**-15), ("a.flac", "PCM_24", 2**-23), ("a.ogg", "VORBIS", 0.05)])
def test_formats(tmp_path, name, subtype, step):
    samples = clip(1, 4000)
    soundfile.write(tmp_path / name, samples, 16000, subtype=subtype)
    found = reading.read_samples(str(tmp_path / name), Reading())
    assert found.dtype == np.float32 and found.shape == (4000,)
    assert np.abs(found - samples).max() <= step
    part = reading.read_samples(str(tmp_path / name), Reading(), start=1000, stop=1500)
    if name != "a.ogg":
        np.testing.assert_array_equal(part, found[1000:1500])
    assert reading.read_head(str(tmp_path / name)) == reading.Head(length=4000, rate=16000)


def test_channels_become_one(tmp_path):
    left, right = clip(1, 500), clip(2, 500)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    found = reading.read_samples(str(tmp_path / "a.wav"), Reading())
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-7)


def test_slices_of_an_archive(tmp_path):
    """Uncompressed members, by their offset and length; sound or features."""
    soundfile.write(tmp_path / "a.flac", clip(1, 900), 16000)
    np.save(tmp_path / "b.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(tmp_path / "a.flac", "a.flac")
        archive.write(tmp_path / "b.npy", "b.npy")
        places = [(i.header_offset + 30 + len(i.filename), i.file_size)
                  for i in archive.infolist()]
    sound, features = (f"{tmp_path / 'all.zip'}:{at}:{size}" for at, size in places)
    np.testing.assert_array_equal(
        reading.read_samples(sound, Reading()),
        reading.read_samples(str(tmp_path / "a.flac"), Reading()))
    assert reading.read_head(sound).length == 900 and not reading.is_features(sound)
    assert reading.is_features(features) and reading.read_head(features) == reading.Head(
        length=6, channels=2)
    np.testing.assert_array_equal(reading.read_features(features)[5], [10, 11])
    with pytest.raises(AudioError, match="all.zip: bytes 9999 to 10019 are wanted"):
        reading.read_samples(f"{tmp_path / 'all.zip'}:9999:20", Reading())


def test_rates(tmp_path):
    path = str(tmp_path / "a.wav")
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4001) / 8000)
    soundfile.write(path, tone, 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a.wav: 8000 samples a second, not 16000: set"):
        reading.read_samples(path, Reading())
    found = reading.read_samples(path, Reading(resample=True))
    assert found.shape == (8002,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8002) / 16000)
    assert np.abs(found - expected)[200:-200].max() < 1e-3
    np.testing.assert_array_equal(
        reading.read_samples(path, Reading(resample=True), start=100, stop=200), found[100:200])


def bad_files(folder) -> dict[str, tuple[str, int, str]]:
    """Name -> file, samples in the manifest, what its error says."""
    wav = (folder / "good.wav")
    soundfile.write(wav, clip(1, 1000), 16000)
    (folder / "cut.wav").write_bytes(wav.read_bytes()[:1044])
    soundfile.write(folder / "empty.wav", np.zeros(0, np.float32), 16000)
    soundfile.write(folder / "rate.wav", clip(1, 1000), 8000)
    samples = clip(1, 1000)
    samples[17] = np.nan
    soundfile.write(folder / "nan.wav", samples, 16000, subtype="FLOAT")
    (folder / "text.wav").write_text("no sound")
    (folder / "nothing.wav").write_text("")
    soundfile.write(folder / "flac.flac", clip(1, 9000), 16000)
    content = (folder / "flac.flac").read_bytes()
    (folder / "flac.flac").write_bytes(content[:len(content) // 2])
    soundfile.write(folder / "mp3.mp3", clip(1, 16000), 16000)
    heard = reading.read_head(str(folder / "mp3.mp3")).length
    content = (folder / "mp3.mp3").read_bytes()
    (folder / "mp3.mp3").write_bytes(content[:len(content) // 2])
    soundfile.write(folder / "ogg.ogg", clip(1, 9000), 16000)
    content = (folder / "ogg.ogg").read_bytes()
    (folder / "ogg.ogg").write_bytes(content[:len(content) - 200])
    return {
        "mp3": ("mp3.mp3", heard, "cut off"),
        "ogg": ("ogg.ogg", 9000, "cut off|has no samples"),
        "missing": ("missing.wav", 1000, "no such file"),
        "cut": ("cut.wav", 1000, "the file is cut off: it has 500 samples, 1000 are written"),
        "longer": ("good.wav", 900, "the file is another one: it has 1000 samples"),
        "empty": ("empty.wav", 1000, "has no samples"),
        "rate": ("rate.wav", 1000, "8000 samples a second, not 16000"),
        "text": ("text.wav", 1000, "cannot be read as sound"),
        "nothing": ("nothing.wav", 1000, "cannot be read as sound"),
        "nan": ("nan.wav", 1000, "1 values are infinite or no numbers, the first in sample 17"),
        "flac": ("flac.flac", 9000, "cut off"),
    }


LATE = ("nan", "flac", "mp3")
"""What only reading finds."""


def test_bad_files_are_errors_that_name_the_line(tmp_path):
    for name, (file, size, message) in bad_files(tmp_path).items():
        (tmp_path / "m.tsv").write_text(f"{tmp_path}\ngood.wav\t1000\n{file}\t{size}\n")
        manifest = manifests.AudioManifest.read(tmp_path / "m.tsv")
        for check in (True, False):
            with pytest.raises((AudioError, RuntimeError), match=f"m.tsv: line 3: .*{message}"):
                dataset = AudioDataset(manifest, reading=Reading(check=check))
                assert name in LATE or not check
                dataset.materialise(np.array([0, 1]), np.array([0, 1]), Shape(2, 17000, 0))


def test_a_bad_file_in_the_middle_of_training(tmp_path):
    """The input's fault: a verb says it in one line (`cli.EXPECTED`)."""
    bad_files(tmp_path)
    (tmp_path / "m.tsv").write_text(f"{tmp_path}\ngood.wav\t1000\nnan.wav\t1000\n")
    dataset = AudioDataset(manifests.AudioManifest.read(tmp_path / "m.tsv"), reading=Reading())
    plan = make_plan(dataset.lengths, batching(max_tokens=1000), seed=1)
    for backend in ("numpy", "tfdata"):
        with open_batches(plan, dataset, batching=batching(backend=backend)) as batches:
            with pytest.raises(ValueError, match=r"epoch 1.* line 3: .*nan.wav: 1 values"):
                list(itertools.islice(batches, 2))


def test_bad_files_are_skipped_and_counted(tmp_path, caplog):
    bad = bad_files(tmp_path)
    lines = [f"{file}\t{size}\n" for file, size, _ in bad.values()]
    (tmp_path / "m.tsv").write_text(f"{tmp_path}\ngood.wav\t1000\n" + "".join(lines))
    manifest = manifests.AudioManifest.read(tmp_path / "m.tsv")
    with caplog.at_level(logging.WARNING):
        dataset = AudioDataset(manifest, reading=Reading(on_bad="skip"))
    assert len(dataset) == 1 + len(LATE)
    assert f"{len(bad) - len(LATE)} of {len(bad) + 1} recordings cannot be used" in caplog.text
    arrays = dataset.at_epoch(2).materialise(np.arange(4), np.arange(4), Shape(5, 17000, 0))
    assert arrays["source_lengths"].tolist() == [1000, 0, 0, 0, 0]
    assert not arrays["source"][1:].any() and len(dataset.skipped.places) == 3
    assert "skipped, 3 so far" in caplog.text
    unchecked = AudioDataset(manifest, reading=Reading(on_bad="skip", check=False))
    arrays = unchecked.materialise(np.arange(12), np.arange(12), Shape(12, 17000, 0))
    assert arrays["source_lengths"].tolist() == [1000] + [0] * 11
    assert len(unchecked.skipped.places) == len(bad)
    (tmp_path / "m.tsv").write_text(f"{tmp_path}\nmissing.wav\t1000\n")
    with pytest.raises(AudioError, match="no recording can be used; the first: .*missing.wav"):
        AudioDataset(manifests.AudioManifest.read(tmp_path / "m.tsv"),
                     reading=Reading(on_bad="skip"))


def test_reading_without_its_library(monkeypatch, folder):
    monkeypatch.setattr(reading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'seqjax\[speech\]'"):
        reading.read_samples(str(folder / "wav" / "0.wav"), Reading())


def test_settings_that_make_no_sense(manifest):
    for wrong in ({"sample_rate": 0}, {"on_bad": "ignore"}, {"workers": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Reading(**wrong)
    for wrong in ({"max_sample_size": 0}, {"min_sample_size": 9, "max_sample_size": 8}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Clips(**wrong)
    with pytest.raises(ValueError, match="resample needs check"):
        AudioDataset(manifest, reading=Reading(resample=True, check=False))


def test_where_parts_begin_and_how_long_they_are():
    """Any start there is, as fairseq's `randint(0, excess + 1)`; lengths that lose least."""
    clips = Clips(max_sample_size=1000)
    starts = {clips.start(1, np.random.RandomState(seed)) for seed in range(20)}
    assert starts == {0, 1}
    assert clips.start(500, np.random.RandomState(7)) == np.random.RandomState(7).randint(0, 501)
    assert clips.start(0, np.random.RandomState(7)) == 0
    assert clips.start(-5, np.random.RandomState(7)) == 0
    whole = np.array([100, 104, 400, 403, 990, 1000, 5000, 6])
    assert clips.lengths(whole).tolist() == [100, 104, 400, 403, 990, 1000, 1000, 6]
    cut = Clips(max_sample_size=1000, pad=False, num_buckets=4, length_multiple=4)
    assert cut.lengths(whole).tolist() == [100, 100, 400, 400, 988, 988, 988, 4]
    one = Clips(pad=False, num_buckets=1, length_multiple=8)
    assert one.lengths(whole[:-1]).tolist() == [96] * 7


# ---- batches ----


def batching(**options):
    return BatchingConfig(**{"max_tokens": 8000, "required_batch_size_multiple": 1,
                             "num_shapes": 3, **options})


def test_padded_batches(folder, manifest):
    dataset = AudioDataset(manifest, reading=Reading(), labels=[letters(manifest)],
                           clips=Clips(max_sample_size=2500, min_sample_size=800))
    assert dataset.ids.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert dataset.lengths.source.tolist() == [1600, 900, 2500, 2000, 2400, 1200, 2500]
    assert dataset.lengths.target.tolist() == [2, 3, 4, 2, 3, 4, 3]
    plan = make_plan(dataset.lengths, batching(), seed=1)
    seen = set()
    for batch in epoch_batches(plan, dataset):
        source, sizes = batch.arrays["source"], batch.arrays["source_lengths"]
        assert source.shape == (batch.shape.rows, batch.shape.source) and source.size <= 8000
        for row, index in enumerate(batch.ids):
            if index < 0:
                assert not sizes[row] and not source[row].any()
                continue
            number = int(dataset.ids[index])
            seen.add(number)
            whole = reading.read_samples(str(folder / "wav" / f"{number}.wav"), Reading())
            assert sizes[row] == min(len(whole), 2500) and not source[row, sizes[row]:].any()
            if len(whole) <= 2500:
                np.testing.assert_array_equal(source[row, :sizes[row]], whole)
            ids = dataset.labels[0].ids(number)
            assert batch.arrays["target"][row, :len(ids)].tolist() == ids.tolist()
            assert batch.arrays["target_lengths"][row] == len(ids)
            assert (batch.arrays["target"][row, len(ids):] == 1).all()
    assert seen == {0, 1, 2, 3, 4, 5, 7}
    assert len({shape for _, shape in plan.shapes}) <= 3


def test_cropped_batches_have_no_padding(folder, manifest):
    """Parts begin anywhere, by (seed, epoch, recording), and their labels with them."""
    frames = labels.load_labels(manifest, "km", folder=str(folder), rate=100.0)
    options = dict(reading=Reading(), labels=[frames], clips=Clips(
        max_sample_size=2000, pad=False, num_buckets=3))
    dataset = AudioDataset(manifest, **options)
    assert len(set(dataset.lengths.source.tolist())) == 3 and dataset.lengths.target is None
    assert (dataset.lengths.source <= np.minimum(SIZES, 2000)).all()
    plan = make_plan(dataset.lengths, batching(), seed=1)
    starts: dict[int, list[int]] = {}
    for epoch in (1, 2, 3):
        for batch in epoch_batches(plan.epoch(epoch), dataset):
            real = batch.ids >= 0
            assert (batch.arrays["source_lengths"][real] == batch.shape.source).all()
            for row in np.flatnonzero(real):
                number = int(dataset.ids[batch.ids[row]])
                whole = reading.read_samples(str(folder / "wav" / f"{number}.wav"), Reading())
                part = batch.arrays["source"][row]
                start = next(s for s in range(len(whole)) if np.array_equal(
                    whole[s:s + len(part)], part))
                starts.setdefault(number, []).append(start)
                first, count = round(start / 160), round(len(part) / 160)
                size = batch.arrays["target_lengths"][row]
                expected = frames.ids(number)[first:first + count]
                assert batch.arrays["target"].shape[1] == count and size == len(expected)
                assert batch.arrays["target"][row, :size].tolist() == expected.tolist()
    assert any(len(set(found)) == 3 for found in starts.values())
    other = AudioDataset(manifest, seed=2, **options)
    assert any(not np.array_equal(dataset.samples(i), other.samples(i)) for i in range(8))
    first = AudioDataset(manifest, **{**options, "clips": Clips(
        max_sample_size=2000, pad=False, random_crop=False)})
    np.testing.assert_array_equal(first.samples(2)[:50], reading.read_samples(
        str(folder / "wav" / "2.wav"), Reading(), stop=50))


def test_normalised_before_cropped(folder, manifest):
    """fairseq normalises all of a recording, then takes a part."""
    options = dict(reading=Reading(), clips=Clips(max_sample_size=1000))
    plain = AudioDataset(manifest, **options)
    dataset = AudioDataset(manifest, normalize=1e-5, **options)
    whole = reading.read_samples(str(folder / "wav" / "2.wav"), Reading())
    expected = (plain.samples(2) - whole.mean()) / np.sqrt(whole.var() + 1e-5)
    np.testing.assert_allclose(dataset.samples(2), expected, atol=1e-5)


def test_speed_changes_lengths_within_the_plan(manifest):
    dataset = AudioDataset(manifest, reading=Reading(), transforms=[SpeedAugment()])
    sizes = [[len(dataset.at_epoch(e).samples(i)) for e in range(1, 6)] for i in range(8)]
    assert all(max(row) <= most for row, most in zip(sizes, dataset.lengths.source, strict=True))
    assert all(len(set(row)) > 1 for row in sizes)
    assert sizes == [[len(dataset.at_epoch(e).samples(i)) for e in range(1, 6)] for i in range(8)]


@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_with_and_without_tensorflow_the_same(folder, manifest, shard):
    """Also from the middle of an epoch, also the part of one process."""
    dataset = AudioDataset(
        manifest, reading=Reading(workers=4), labels=[letters(manifest)],
        clips=Clips(max_sample_size=1500), normalize=1e-5)
    plan = make_plan(dataset.lengths, batching(), seed=3, row_multiple=2)
    batches = {}
    for backend in ("numpy", "tfdata"):
        with open_batches(plan, dataset, batching=batching(backend=backend),
                          shard=shard) as found:
            batches[backend] = list(itertools.islice(found, 7))
    for a, b in zip(*batches.values(), strict=True):
        assert a.state == b.state and a.ids.tolist() == b.ids.tolist()
        for key, value in a.arrays.items():
            assert value.dtype == b.arrays[key].dtype
            np.testing.assert_array_equal(value, b.arrays[key])
    state = batches["numpy"][3].state
    with open_batches(plan, dataset, batching=batching(backend="tfdata"), state=state,
                      shard=shard) as found:
        np.testing.assert_array_equal(
            next(found).arrays["source"], batches["numpy"][4].arrays["source"])


def test_fairseqs_order(manifest):
    """By falling length, ties by the permutation of its seed."""
    dataset = AudioDataset(manifest, reading=Reading(), order_seed=5,
                           clips=Clips(max_sample_size=2000))
    sizes = np.minimum(SIZES, 2000)
    expected = np.lexsort([np.random.RandomState(5).permutation(8), sizes])[::-1]
    assert dataset.lengths.order.tolist() == expected.tolist()
    plan = make_plan(dataset.lengths, batching(mode="fairseq", num_shapes=8), seed=1)
    assert sum(batch.nsentences for batch in epoch_batches(plan, dataset)) == 8
