"""The published CIFAR-100-C (Zenodo record 3555552): MD5 of each file, and the comparison with a folder."""

from pathlib import Path
from typing import Any

from fastuq.datasets.corruptions import CORRUPTIONS, DETERMINISTIC
from fastuq.datasets.corruptions.generate import md5_file, recorded_md5
from fastuq.errors import InputError

MD5 = {
    "brightness": "f22d7195aecd6abb541e27fca230c171",
    "contrast": "322bb385f1d05154ee197ca16535f71e",
    "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
    "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
    "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
    "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
    "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
    "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
    "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
    "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
    "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
    "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
    "pixelate": "96c00c60f144539e14cffb02ddbd0640",
    "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
    "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
    "snow": "0237be164583af146b7b144e73b43465",
    "spatter": "12ccf41d62564d36e1f6a6ada5022728",
    "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
    "zoom_blur": "0204613400c034a81c4830d5df81cb82",
    "labels": "bb4026e9ce52996b95f439544568cdb2",
}
CIFAR100_TEST_MD5 = "f0ef6b0ae62326f3e7ffdfab6717acfc"


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
    states = {}
    for name in (*CORRUPTIONS, "labels"):
        states[name] = _state(folder / f"{name}.npy", MD5[name], recorded.get(f"{name}.npy"))
    source_published = cifar100_test.is_file() and md5_file(cifar100_test) == CIFAR100_TEST_MD5
    must = (*DETERMINISTIC, "labels") if source_published else ()
    ok = not {"missing", "differs"} & set(states.values()) and all(states[name] == "published" for name in must)
    return {"files": states, "source_published": source_published, "ok": ok}


def _state(path: Path, published: str, recorded: str | None) -> str:
    if not path.is_file():
        return "missing"
    found = md5_file(path)
    return "published" if found == published else "made here" if found == recorded else "differs"
