"""Compiled kernels: made once per processor, kept as object code, loaded without Numba, called with arrays.

A kernel is a function of one record (a NamedTuple of arrays, numbers and other records). `Kernel` names it; the code is
in a module that imports Numba and is imported where the code must be made. What was made is kept by the hash of all
sources that it is made of, the processor and the types of the record.
"""

import ctypes
import functools
import hashlib
import importlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
from llvmlite import binding

from fastuq.errors import InputError
from fastuq.montecarlo.kernels.targets import Target, features_text, processor

ENTRY = "fastuq_kernel"
"""Name of the one function of an object file."""
_SCALARS = {bool: "b", int: "i", np.float32: "f", np.uint64: "u"}


class Frame:
    """A record laid flat: one 64-bit word a number; its address and shape for an array.

    It holds the record, hence the arrays, whose addresses are good as long as they live.
    """

    def __init__(self, record: Any) -> None:
        words: list[int] = []
        self.record, self.kinds = record, _flatten(record, words)
        self.words = words


def laid_flat(record: Any) -> Any:
    """Return a record laid flat once, to be given to kernels in its place, many times."""
    return Frame(record)


def _flatten(value: Any, words: list[int]) -> str:
    """Append the words of a value, and return what it is in letters."""
    if isinstance(value, Frame):
        words.extend(value.words)
        return value.kinds
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise TypeError(f"kernels take contiguous arrays, not one with strides {value.strides}")
        words.append(value.__array_interface__["data"][0])
        words.extend(value.shape)
        return f"{value.dtype.str[1:]}{value.ndim}"
    if isinstance(value, tuple):
        return f"{type(value).__name__}({' '.join([_flatten(part, words) for part in value])})"
    letter = _SCALARS.get(type(value))
    if letter is None:
        raise TypeError(f"kernels take arrays, records, int, bool, float32 and uint64, not {type(value)}")
    words.append(int(value.view(np.uint32)) if letter == "f" else int(value))
    return letter


class Kernel:
    """A kernel by name: ``module`` of this package and ``function`` in it, compiled when it is first called."""

    def __init__(self, module: str, function: str) -> None:
        self.module, self.function = module, function

    def __call__(self, target: Target, record: Any) -> None:
        """Run it on a record; the GIL is free meanwhile, and the record is held until it is done."""
        words: list[int] = []
        kinds = _flatten(record, words)
        run = self._made.get((target.name, kinds)) or self._make(target, kinds, record)
        frame = np.array([word & 0xFFFFFFFFFFFFFFFF for word in words], np.uint64)
        run(frame.ctypes.data)

    @functools.cached_property
    def _made(self) -> dict[tuple[str, str], Any]:
        return {}

    def _make(self, target: Target, kinds: str, record: Any) -> Any:
        with _LOCK:
            if (target.name, kinds) not in self._made:
                file = self._file(target, kinds)
                code = _read(file)
                if code is None:
                    code = self._compile(target, record)
                    _write(file, code)
                self._made[target.name, kinds] = _loaded(code)
        return self._made[target.name, kinds]

    def _file(self, target: Target, kinds: str) -> Path | None:
        if (folder := cache_folder()) is None:
            return None
        name, features = processor()
        numba = version("numba")
        about = (self.module, self.function, target.name, kinds, name, *sorted(features), numba, llvmlite.__version__)
        return folder / f"{self.function}-{hashlib.sha256(' '.join(about).encode()).hexdigest()[:16]}.o"

    def _compile(self, target: Target, record: Any) -> bytes:
        from fastuq.montecarlo.kernels.building import object_code

        module = importlib.import_module(f"fastuq.montecarlo.kernels.{self.module}")
        return object_code(getattr(module, self.function), record, target)


_LOCK = threading.RLock()
_LOADED: list[tuple] = []
"""Machine code lives as long as the process: kernels may run in other threads until the end."""


def target_machine() -> binding.TargetMachine:
    """Return LLVM's code generator for `targets.processor`."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=processor()[0], features=features_text(), opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )


def _loaded(code: bytes) -> Any:
    module = binding.parse_assembly("")
    engine = binding.create_mcjit_compiler(module, target_machine())
    objects = binding.ObjectFileRef.from_data(code)
    engine.add_object_file(objects)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(ENTRY))
    _LOADED.append((engine, objects, module))
    return function


def _read(file: Path | None) -> bytes | None:
    """Return kept code; None where there is none, or not as it was written."""
    if file is None:
        return None
    try:
        content = file.read_bytes()
    except OSError:
        return None
    return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None


def _write(file: Path | None, code: bytes) -> None:
    """Keep code for the next process; where that fails, it is made again."""
    if file is None:
        return
    with suppress(OSError), tempfile.TemporaryDirectory(dir=file.parent) as place:
        made = Path(place, file.name)
        made.write_bytes(hashlib.sha256(code).digest() + code)
        made.replace(file)


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder that keeps compiled kernels for the next process, None where there is none.

    It lies where Numba would keep them by itself (a folder named to it, this package, the home), else in a private
    temporary folder, and belongs to the sources that kernels are made of.
    """
    here = Path(__file__).parent
    base = next(filter(_can_write, _places(here)), None) or _private_folder()
    if base is None:
        return None
    folder = Path(base, f"fastuq-{_sources()}")
    if Path(base) == here / "__pycache__":  # nobody else's: what was compiled of other sources has no use
        for other in set(Path(base).glob("fastuq-*")) - {folder}:
            shutil.rmtree(other, ignore_errors=True)
    return folder if _can_write(folder) else None


def _places(here: Path) -> Iterator[str | Path]:
    yield os.environ.get("NUMBA_CACHE_DIR", "")
    yield here / "__pycache__"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):  # "~" stays where there is no home
        yield os.path.join(home, "numba")


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

    What is kept is machine code: who can write it can run code here.
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


if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
    raise InputError(
        "NUMBA_DISABLE_JIT: expected it unset or 0, found it set; the kernels do not run uncompiled: unset it"
    )
