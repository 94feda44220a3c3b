"""Tables of speech to text: a `.tsv` with a header in, its rows out, each with its line.

Tabs separate columns, and quotes mean nothing. `id`, `audio`, `n_frames` and `tgt_text` must be
there; `speaker`, `src_text`, `src_lang` and `tgt_lang` may be.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from seqjax.data.audio.manifests import AudioManifest, find_root
from seqjax.data.sources import SourceError, iterate_lines, require_file

REQUIRED = ("id", "audio", "n_frames", "tgt_text")
OPTIONAL = ("speaker", "src_text", "src_lang", "tgt_lang")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpeechTable:
    """Recordings with texts."""

    split: str
    manifest: AudioManifest
    """Where the recordings are; `frames` are `n_frames`."""
    columns: dict[str, tuple[str, ...]]
    """Every column but `audio` and `n_frames`; optional ones that are not there are empty."""

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], *, audio_root: str = "", need_target: bool = True
    ) -> SpeechTable:
        """The table in a file.

        Args:
          audio_root: folder that its paths are relative to.
          need_target: without it there may be no column `tgt_text`.

        Raises:
          FileNotFoundError: there is no such file.
          SourceError: a column that is missing, a line with more or fewer columns than the header,
            a number of frames that is none, no rows; names the line.
        """
        path = os.fspath(path)
        require_file(path)
        lines = iterate_lines([path])
        header = next(lines, "").split("\t")
        needed = [name for name in REQUIRED if need_target or name != "tgt_text"]
        missing = [name for name in needed if name not in header]
        if missing:
            raise SourceError(f"{path}: line 1 names no column {', '.join(missing)}; expected a "
                              f"header with {', '.join(needed)}, separated by tabs")
        rows = []
        for number, line in enumerate(lines, 2):
            cells = line.split("\t")
            if len(cells) != len(header):
                raise SourceError(f"{path}: line {number} has {len(cells)} columns, the header "
                                  f"{len(header)}")
            rows.append(cells)
            frames = cells[header.index("n_frames")]
            if not frames.isdigit() or not cells[header.index("audio")]:
                raise SourceError(f"{path}: line {number}: audio is "
                                  f"{cells[header.index('audio')]!r} and n_frames {frames!r}; "
                                  "expected a path and a number")
        if not rows:
            raise SourceError(f"{path}: has a header, but no rows")
        names = tuple(row[header.index("audio")] for row in rows)
        manifest = AudioManifest(
            path=path, root=find_root(audio_root, path, names[0]), names=names,
            frames=np.array([int(row[header.index("n_frames")]) for row in rows], np.int64))
        columns = {name: tuple(row[header.index(name)] if name in header else "" for row in rows)
                   for name in ("id", "tgt_text", *OPTIONAL)}
        return cls(split=os.path.basename(path).removesuffix(".tsv"), manifest=manifest,
                   columns=columns)

    def __len__(self) -> int:
        return len(self.manifest)
