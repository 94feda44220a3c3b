"""What all tests share: eight virtual CPU devices, quick compilation, golden data.

The environment is set before anything imports JAX, and subprocesses inherit it.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile
import warnings


def _private_cache() -> str | None:
    """Folder of compiled programs, this user's alone (its contents are executed)."""
    folder = pathlib.Path(tempfile.gettempdir()) / f"seqjax-tests-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    mine = not hasattr(os, "getuid") or about.st_uid == os.getuid()
    if not (stat.S_ISDIR(about.st_mode) and mine and not about.st_mode & 0o077):
        warnings.warn(f"{folder} is open to others: compiling without a cache", stacklevel=1)
        return None
    return str(folder)


# Compiling is most of what the suite does. Level 0 of LLVM halves it; kernels that go to LLVM
# without MLIR between, in one module a program, take a quarter of the rest. XLA's own passes,
# which decide what is computed in which order, run as always.
_QUICK = ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]


def _known(flags: list[str]) -> list[str]:
    """These, or none where the installed XLA, which exits at a flag that it does not have, is
    of another version and does not take them. What was found is left to subprocesses."""
    if "SEQJAX_TEST_QUICK" not in os.environ:
        taken = importlib.metadata.version("jaxlib").startswith("0.10.") or not subprocess.run(
            [sys.executable, "-c", "import jax; jax.devices()"], capture_output=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}).returncode
        os.environ["SEQJAX_TEST_QUICK"] = " ".join(flags) if taken else ""
    return os.environ["SEQJAX_TEST_QUICK"].split()


os.environ["XLA_FLAGS"] = " ".join([
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    *_known(_QUICK),
]).strip()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
if _cache := _private_cache():
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _together(nodeid: str) -> str:
    """What is run by one process: a file, or what every model must do, of one case."""
    case = re.search(r"test_conformance\.py::.*\[(\w+/\w+)", nodeid)
    return case[1] if case else nodeid.split("::")[0]


MOST_MAPPINGS = 12_000
"""A process may have 65,530 by default, and each compiled program takes several."""


def pytest_runtest_teardown(item, nextitem):
    """Between files, lets go of compiled programs when there are many: a process that has no
    mapping left for the next one crashes."""
    if nextitem is not None and _together(item.nodeid) == _together(nextitem.nodeid):
        return
    maps = pathlib.Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_text().count("\n") > MOST_MAPPINGS:
        sys.modules["jax"].clear_caches()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, which keeps a file's tests in one process, so that what they share is
    compiled once; of what every model must do, a case's tests. In the order of names: by default
    files of few tests come last, which here are whole training runs that one process would end
    with alone."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrCase(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return _together(nodeid)

    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return ByFileOrCase(config, log)


@pytest.fixture(autouse=True)
def compilation_goes_without_saying(monkeypatch):
    """What is being compiled is said when it takes long, which on a busy machine is any
    program: no test of another line may depend on that. Tests about it set this anew."""
    from seqjax.console import compiling

    monkeypatch.setattr(compiling, "FIRST", float("inf"))


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the working tree."""
    return ROOT


@pytest.fixture(scope="session")
def goldens() -> pathlib.Path:
    """Folder of recorded data, unpacked; what is under it says where it comes from."""
    import packed

    return packed.unpacked(packed.GOLDENS)


@pytest.fixture
def one_device_env() -> dict[str, str]:
    """Environment of a subprocess that sees one CPU device, as most users' does."""
    env = dict(os.environ)
    env["XLA_FLAGS"] = env["XLA_FLAGS"].replace(
        "--xla_force_host_platform_device_count=8", "--xla_force_host_platform_device_count=1"
    )
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    return env
