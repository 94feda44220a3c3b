"""TensorFlow datasets as a source of raw text, for `preprocess --source tfds:NAME`.

A dataset is found by its name in TFDS, or as a folder that TFDS built. It is turned into
files of lines, which everything else reads. TFDS, and TensorFlow under it, is imported here
and only when asked for; it is kept away from GPUs, whose memory it would take.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.data.sources import SourceError, one_line

# TFDS's names for what fairseq calls valid.
_SPLITS = {"train": ("train",), "valid": ("validation", "valid", "dev"), "test": ("test",)}
_REACHABLE = "https://storage.googleapis.com"
_BATCH = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """An opened dataset: what to read from it."""

    builder: Any
    name: str
    keys: tuple[str, ...]
    """Feature of each text, a path such as `translation/en` where features are nested."""
    langs: tuple[str | None, ...]
    """Language of each text."""
    splits: Mapping[str, str]
    """Our split (`train`, `valid`, `test`) -> the dataset's."""


def open_corpus(
    name: str,
    *,
    langs: Sequence[str | None],
    keys: Sequence[str | None],
    data_dir: str | None = None,
    download: bool = False,
) -> Corpus:
    """Finds a dataset and which of its features to read.

    Args:
      name: a name of TFDS such as `wmt14_translate/de-en`, or a folder that TFDS built.
      langs: source and target language, or the only one; None to infer them from the
        features of a translation dataset.
      keys: the features, None for those named as the languages.
      data_dir: where TFDS keeps datasets (None: its own choice).
      download: let TFDS download and prepare a dataset that is not there yet.

    Raises:
      SourceError: TFDS is not installed, or there is no such dataset, it is not prepared,
        or lacks the features or a training split.
    """
    tfds = _import_tfds()
    builder = _builder(tfds, name, data_dir=data_dir, download=download)
    features = sorted(_leaves(tfds, builder.info.features))
    keys, langs = _choose(builder.info, features, name, keys=list(keys), langs=list(langs))
    splits = {
        ours: theirs[0]
        for ours, names in _SPLITS.items()
        if (theirs := [n for n in names if n in builder.info.splits])
    }
    if not splits:
        there = ", ".join(builder.info.splits) or "none"
        raise SourceError(f"{name}: has no split train, validation or test. It has: {there}.")
    return Corpus(builder=builder, name=name, keys=tuple(keys), langs=tuple(langs), splits=splits)


def _import_tfds() -> Any:
    # Without these, TFDS asks the network about Google's cloud before it opens a local file.
    os.environ.setdefault("NO_GCE_CHECK", "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise SourceError(
            f"--source tfds: TensorFlow Datasets cannot be imported ({error})."
            " Install it with: pip install 'seqjax[tfdata]'"
        ) from None
    return tfds


def _hide_accelerators() -> None:
    from seqjax.data import tfdata

    tfdata.tensorflow()


def _builder(tfds: Any, name: str, *, data_dir: str | None, download: bool) -> Any:
    folder = os.path.expanduser(name)
    if os.path.isdir(folder) or name.startswith(("/", ".", "~")):
        if not os.path.isfile(os.path.join(folder, "dataset_info.json")):
            raise SourceError(
                f"{name}: no folder built by TFDS (it would hold a dataset_info.json)."
                " Give the folder of a version, such as my_dataset/1.0.0."
            )
        return tfds.builder_from_directory(folder)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise SourceError(
            f"tfds:{name}: TFDS knows no such dataset. Its catalogue lists the names; a dataset"
            " of your own is given as the folder that TFDS built."
        ) from None
    except (ValueError, KeyError) as error:
        raise SourceError(f"tfds:{name}: {str(error).splitlines()[0]}") from None
    if not builder.is_prepared():
        where = builder.data_path
        if not download:
            raise SourceError(
                f"tfds:{name}: not prepared yet ({where} is missing). Prepare it where there is"
                f" network, with: tfds build {name}; or pass --tfds-download."
            )
        _require_network(name)
        builder.download_and_prepare()
    return builder


def _require_network(name: str) -> None:
    """Fails within seconds where TFDS would retry for minutes."""
    try:
        with urllib.request.urlopen(_REACHABLE, timeout=10):
            return
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        raise SourceError(
            f"tfds:{name}: cannot be downloaded, there is no network ({error}). Prepare it"
            f" elsewhere with: tfds build {name}; then give the folder: --source tfds:FOLDER"
        ) from None


def _leaves(tfds: Any, features: Any, prefix: str = "") -> list[str]:
    """Paths of the features that are text."""
    found: list[str] = []
    for key, feature in features.items():
        path = f"{prefix}{key}"
        if isinstance(feature, tfds.features.FeaturesDict):
            found += _leaves(tfds, feature, f"{path}/")
        elif feature.shape == () and np.dtype(feature.np_dtype).kind in "OSU":
            found.append(path)
    return found


def _choose(
    info: Any,
    features: list[str],
    name: str,
    *,
    keys: list[str | None],
    langs: list[str | None],
) -> tuple[list[str], list[str | None]]:
    """The feature and the language of each text."""
    pair = info.supervised_keys
    if len(langs) == 2 and langs == [None, None] and keys == [None, None]:
        if not pair or len(pair) != 2 or not all(key in features for key in pair):
            raise SourceError(
                f"{name}: its languages cannot be told from its features ({', '.join(features)})."
                " Name them: --source-lang --target-lang --tfds-source-key --tfds-target-key"
            )
        langs = list(pair)
    chosen: list[str] = []
    for key, lang, flag in zip(keys, langs, ("source", "target"), strict=False):
        wanted = key or lang or ("text" if len(langs) == 1 else None)
        matches = [f for f in features if f == wanted] or (
            [f for f in features if key is None and f.rpartition("/")[2] == wanted]
        )
        if len(matches) != 1:
            raise SourceError(
                f"{name}: has no text feature {wanted!r}; it has: {', '.join(features) or 'none'}."
                f" Say which with --tfds-{flag}-key."
            )
        chosen.append(matches[0])
    return chosen, langs


def write_text(corpus: Corpus, split: str, outputs: Sequence[str]) -> int:
    """Writes the texts of a split to files of lines, one for each key; gives their number.

    Line ends inside a text become spaces.
    """
    number = 0
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(open(output, "w", encoding="utf-8", newline="\n"))
            for output in outputs
        ]
        for texts in _texts(corpus, corpus.splits[split]):
            for file, text in zip(files, texts, strict=True):
                file.write(one_line(text.decode("utf-8", errors="replace")) + "\n")
            number += 1
    return number


def _texts(corpus: Corpus, split: str) -> Iterator[tuple[bytes, ...]]:
    """The examples of a split, in a fixed order."""
    formats = {str(getattr(corpus.builder.info.file_format, "value", ""))}
    if "array_record" in formats:
        for example in corpus.builder.as_data_source(split=split):
            yield tuple(_bytes(_at(example, key)) for key in corpus.keys)
        return
    _hide_accelerators()
    dataset = corpus.builder.as_dataset(split=split, shuffle_files=False)
    dataset = dataset.map(lambda example: tuple(_at(example, key) for key in corpus.keys))
    for batch in dataset.batch(_BATCH).as_numpy_iterator():
        yield from zip(*batch, strict=True)


def _at(example: Any, key: str) -> Any:
    for part in key.split("/"):
        example = example[part]
    return example


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else bytes(value)
