"""Goldens that are packed: a file or folder of goldens in, where it lies unpacked out.

`NAME.xz` is the file NAME as another library wrote it, which wastes most of its bytes on headers
(torch's, NumPy's and orbax's files of tiny tensors) or repeats itself. Recording scripts end with

    packed.pack(FOLDER)              # or: python tests/packed.py FOLDER [FOLDER ...]

which packs what that makes smaller by a fifth and by 4 kB, but for text that people read. All
else is as it was written.
"""

from __future__ import annotations

import atexit
import functools
import lzma
import pathlib
import shutil
import sys
import tempfile

READ = {".txt", ".tsv", ".md"}
"""Ends of names of what people read, which stays."""
GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens"


@functools.cache
def _room() -> pathlib.Path:
    """This process's folder for what it unpacks, which ends with it."""
    room = tempfile.mkdtemp(prefix="seqjax-goldens-")
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    return pathlib.Path(room)


@functools.cache
def unpacked(path: pathlib.Path) -> pathlib.Path:
    """Where `path`, a file or a folder with all that is in it, lies unpacked.

    That is `path` itself if nothing of it is packed; otherwise a copy, the same one for all that
    ask in this process: nobody may change it.
    """
    packed = path.with_name(path.name + ".xz")
    if not packed.exists() and not next(path.rglob("*.xz"), None):
        return path
    target = pathlib.Path(tempfile.mkdtemp(dir=_room())) / path.name
    if packed.exists():
        target.write_bytes(lzma.decompress(packed.read_bytes()))
        return target
    for file in path.rglob("*"):
        to = target / file.relative_to(path)
        if file.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        elif file.suffix == ".xz":
            to.parent.mkdir(parents=True, exist_ok=True)
            to.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, to)
    return target


def pack(folder: pathlib.Path) -> None:
    """Packs what is in `folder` where that saves space; a file written anew replaces its packed
    one."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.suffix in {".xz", *READ}:
            continue
        packed, contents = file.with_name(file.name + ".xz"), file.read_bytes()
        small = lzma.compress(
            contents, check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME)
        packed.unlink(missing_ok=True)
        if len(contents) - len(small) > max(4000, 0.2 * len(contents)):
            packed.write_bytes(small)
            file.unlink()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        pack(pathlib.Path(name))
