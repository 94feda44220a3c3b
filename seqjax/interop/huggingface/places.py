"""A path or a name on the Hugging Face Hub in, the path of what is there out, and whose it is."""

from __future__ import annotations

import os
import pathlib
import re

from seqjax.checkpoints import CheckpointError
from seqjax.checkpoints.folder import FOLDER
from seqjax.interop.huggingface.files import CONFIG, SAFETENSORS, TORCH, is_folder
from seqjax.interop.huggingface.symbols import FILES

__all__ = ["identity", "is_folder", "resolve"]

SCHEME = "hf:"
_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?:@[\w./-]+)?")
_WANTED = (CONFIG, "generation_config.json", *FILES)
_PT = "model.pt"


def resolve(path: str) -> str:
    """The path of a checkpoint: of `hf:org/name` its folder in huggingface_hub's cache, fetched if
    there is a network (of `hf:FOLDER` the folder, where there is one); of a folder that holds
    fairseq's `model.pt`, and nothing that is ours or Hugging Face's, that file; of anything else
    the path as it is.

    Raises:
      CheckpointError: no such model, or a folder of neither.
    """
    if path.startswith(SCHEME):
        if not os.path.isdir(path.removeprefix(SCHEME)):
            return _fetched(path)
        path = path.removeprefix(SCHEME)
    root = pathlib.Path(path)
    if not root.is_dir() or is_folder(path) or _is_ours(root):
        return path
    if (root / _PT).is_file():
        return os.fspath(root / _PT)
    files = sorted(f.name for f in root.glob("*.pt"))
    if files:
        raise CheckpointError(f"{path}: holds {', '.join(files[:5])}; name one of these files")
    raise CheckpointError(
        f"{path}: holds no checkpoint: neither {FOLDER}/ of a work folder, nor {CONFIG} with "
        f"{SAFETENSORS} or {TORCH} of Hugging Face, nor fairseq's {_PT}")


def _is_ours(root: pathlib.Path) -> bool:
    """A work folder, its folder of checkpoints, or a checkpoint, whole or not."""
    inside = ("about", "params", FOLDER)
    return any((root / name).is_dir() for name in inside) or any(
        child.name.isdigit() and child.is_dir() for child in root.iterdir())


def identity(path: str) -> str:
    """Which folder's weights exactly these are."""
    root = pathlib.Path(path)
    weights = [f for f in sorted(root.iterdir()) if f.suffix in (".safetensors", ".bin")]
    stats = [f.stat() for f in weights]
    return "@".join([os.path.realpath(path), *(f"{s.st_size}.{s.st_mtime_ns}" for s in stats)])


def _fetched(path: str) -> str:
    """The folder of `hf:org/name`, or of `hf:org/name@revision`."""
    name = path.removeprefix(SCHEME)
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"{path}: give hf:org/name or hf:org/name@revision")
    name, _, revision = name.partition("@")
    return _snapshot(name, revision or None, path)


def _snapshot(name: str, revision: str | None, path: str) -> str:
    import huggingface_hub
    from huggingface_hub import errors

    cache = _cache()
    small = [*_WANTED, "*.index.json"]

    def look(patterns: list[str]) -> str:
        return huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=patterns, cache_dir=cache)

    try:
        listed = huggingface_hub.list_repo_files(name, revision=revision)
        safe = any(file.endswith(".safetensors") for file in listed)
        return look([*small, "model*.safetensors" if safe else "pytorch_model*.bin"])
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise CheckpointError(
            f"{path}: the Hugging Face Hub has no such model, or none that may be read without "
            f"leave ({type(error).__name__})") from None
    except Exception:  # whatever its client says of having no network
        pass
    found = huggingface_hub.try_to_load_from_cache(
        name, CONFIG, cache_dir=cache, revision=revision)
    if not isinstance(found, str):
        raise CheckpointError(
            f"{path}: is not in the cache of huggingface_hub ({cache or 'the usual place'}), and "
            "the Hugging Face Hub cannot be reached: copy the folder here and give its path")
    return os.path.dirname(found)


def _cache() -> str | None:
    """The folder of huggingface_hub's cache, as the environment has it now (None: its own)."""
    if "HF_HUB_CACHE" in os.environ:
        return os.environ["HF_HUB_CACHE"]
    home = os.environ.get("HF_HOME")
    return os.path.join(home, "hub") if home else None
