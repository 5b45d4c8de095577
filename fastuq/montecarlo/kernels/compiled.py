"""How every kernel is compiled and where it is kept, and what the processor offers."""

import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba import config

from fastuq.errors import InputError

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
if config.DISABLE_JIT:
    raise InputError(
        "NUMBA_DISABLE_JIT: expected it unset or 0, found it set; the kernels do not run uncompiled: unset it"
    )


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder that keeps compiled kernels for the next process, None where there is none.

    It lies where Numba would keep them by itself (a folder named to it, this package, the home), else in a private
    temporary folder, and belongs to the sources that kernels are made of: Numba compares a kernel's own file alone,
    while kernels hold the code of others too.
    """
    here, home = Path(__file__).parent, os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    places = [config.CACHE_DIR, here / "__pycache__"]
    places += [os.path.join(home, "numba")] if os.path.isabs(home) else []  # "~" stays where there is no home
    base = next(filter(_can_write, places), None) or _private_folder()
    if base is None:
        return None
    folder = Path(base, f"fastuq-{_sources()}")
    if Path(base) == here / "__pycache__":  # nobody else's: what was compiled of other sources has no use
        for other in set(Path(base).glob("fastuq-*")) - {folder}:
            shutil.rmtree(other, ignore_errors=True)
    return folder if _can_write(folder) else None


def _sources() -> str:
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for file in [*sorted(here.glob("*.py")), here.parents[1] / "model" / "activations.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _can_write(folder: str | Path) -> bool:
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return bool(folder)


def _private_folder() -> Path | None:
    """Return a temporary folder that nobody but this user can write to, None where there is none.

    What Numba keeps are pickles: who can write them can run code here.
    """
    try:
        parent = Path(tempfile.gettempdir())
        folder, above = parent / f"fastuq-numba-{os.geteuid()}", parent.stat()
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    others = stat.S_IWGRP | stat.S_IWOTH
    lasting = above.st_uid in (0, os.geteuid()) and (not above.st_mode & others or above.st_mode & stat.S_ISVTX)
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder if lasting and own and _can_write(folder) else None


def _compiler(**options: Any) -> Callable[[Callable], Any]:
    def compiled(function: Callable) -> Any:
        folder, given = cache_folder(), config.CACHE_DIR
        config.CACHE_DIR = str(folder or "")
        try:
            return numba.njit(**_OPTIONS, **options, cache=folder is not None)(function)
        finally:
            config.CACHE_DIR = given

    return compiled


kernel = _compiler()
"""Compile without bounds checks, releasing the GIL: threads are Python's own, so their number is an argument.

No fastmath: a multiply and an add stay two IEEE operations, so every processor gives the same bits. Compiled kernels
are kept in `cache_folder`.
"""

inlined = _compiler(forceinline=True)
"""The same, put into its callers: a call that passes a plan copies a hundred numbers."""


@functools.cache
def has_vnni() -> bool:
    """Tell whether this processor has the AVX512-VNNI instruction that `simd.dot_tile` emits."""
    features = binding.get_host_cpu_features()
    return all(features.get(name, False) for name in ("avx512f", "avx512bw", "avx512vl", "avx512vnni"))
