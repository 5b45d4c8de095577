"""Where the data sets are published, with sizes and checksums."""

from dataclasses import dataclass

CIFAR100_TEST_MD5 = "f0ef6b0ae62326f3e7ffdfab6717acfc"

CIFAR100C_MD5 = {
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
"""MD5 of each ``NAME.npy`` of CIFAR-100-C."""
CIFAR100C = tuple(name for name in CIFAR100C_MD5 if name != "labels")
"""The corruptions of CIFAR-100-C; `fastuq.datasets.corruptions` can make these, and may make more."""


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes
    ----------
    name : str
        What ``fastuq download`` calls it.
    url, file : str
        Address, and the name that the file keeps.
    size : int
        Bytes.
    md5 : str
        MD5 of the archive.
    folder : str
        Folder inside of the archive, and of the data folder, that holds the members.
    members : dict of str to str
        MD5 of each file in `folder` that is needed; others are left in the archive.
    """

    name: str
    url: str
    file: str
    size: int
    md5: str
    folder: str
    members: dict[str, str]


ARCHIVES = {
    "cifar100": Archive(
        name="cifar100",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        file="cifar-100-python.tar.gz",
        size=169_001_437,
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        members={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": CIFAR100_TEST_MD5,
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
    "cifar100c": Archive(
        name="cifar100c",
        url="https://zenodo.org/api/records/3555552/files/CIFAR-100-C.tar/content",
        file="CIFAR-100-C.tar",
        size=2_918_473_216,
        md5="11f0ed0f1191edbf9fa23466ae6021d3",
        folder="CIFAR-100-C",
        members={f"{name}.npy": md5 for name, md5 in CIFAR100C_MD5.items()},
    ),
}
