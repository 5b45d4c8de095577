"""A folder of CIFAR-100-C files beside the published checksums."""

from pathlib import Path
from typing import Any

from fastuq.datasets.checksums import md5_file, recorded_md5
from fastuq.datasets.corruptions import DETERMINISTIC
from fastuq.datasets.published import CIFAR100_TEST_MD5, CIFAR100C_MD5
from fastuq.errors import InputError


def verify(folder: Path, cifar100_test: Path) -> dict[str, Any]:
    """Compare the files in `folder` with the published checksums.

    A file can equal the published one if it is the published one, or if it has no randomness (eight corruptions, and
    the labels) and was made from the published test images in their order.

    Parameters
    ----------
    folder : Path
        Folder with ``NAME.npy`` files.
    cifar100_test : Path
        The file ``cifar-100-python/test`` that `fastuq corrupt` would use.

    Returns
    -------
    dict
        ``files``: per name ``published``, ``made here`` (as `fastuq corrupt` recorded it), ``differs`` or
        ``missing``; ``source_published``: whether the test images are the published file; ``ok``: no file differs or
        is missing, and with the published test images every file without randomness equals the published one.

    Raises
    ------
    InputError
        There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"nothing to verify: {folder} is not there; run `fastuq corrupt` or give --output")
    recorded = recorded_md5(folder)
    states = {
        name: _state(folder / f"{name}.npy", md5, recorded.get(f"{name}.npy")) for name, md5 in CIFAR100C_MD5.items()
    }
    source_published = cifar100_test.is_file() and md5_file(cifar100_test) == CIFAR100_TEST_MD5
    must = {*DETERMINISTIC, "labels"} & states.keys() if source_published else ()
    ok = not {"missing", "differs"} & set(states.values()) and all(states[name] == "published" for name in must)
    return {"files": states, "source_published": source_published, "ok": ok}


def _state(path: Path, published: str, recorded: str | None) -> str:
    if not path.is_file():
        return "missing"
    found = md5_file(path)
    return "published" if found == published else "made here" if found == recorded else "differs"
