"""Where data sets and trained models are published, with sizes and checksums."""

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
    """A published file: an archive, or one of data that is kept as it is.

    Attributes
    ----------
    name : str
        What ``fastuq download`` calls it.
    url, file : str
        Address, empty for archives of fastuq's own, and the place in the data folder that the file gets: in `folder`
        where it is no archive.
    size : int
        Bytes.
    md5 : str
        MD5 of the file.
    folder : str
        Folder inside of the archive, and of the data folder, that holds the members.
    members : dict of str to str, or None
        MD5 of each file in `folder` that is needed; others are left in the archive. None: all pictures there, of which
        no checksums are published.
    """

    name: str
    url: str
    file: str
    size: int
    md5: str
    folder: str
    members: dict[str, str] | None

    @property
    def is_data(self) -> bool:
        """Whether the file is no archive."""
        return self.file.startswith(f"{self.folder}/")

    @property
    def is_model(self) -> bool:
        """Whether the folder is that of a model."""
        return self.folder.startswith("models/")


def _one_file(name: str, url: str, size: int, md5: str) -> Archive:
    file = url.rpartition("/")[2]
    return Archive(name, url, f"{name}/{file}", size, md5, name, {file: md5})


def _own_model(name: str, size: int, md5: str, members: dict[str, str]) -> Archive:
    return Archive(name, "", f"models/{name}.tar", size, md5, f"models/{name}", members)


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
    "cifar10": Archive(
        name="cifar10",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        file="cifar-10-python.tar.gz",
        size=170_498_071,
        md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        members={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    "mnist": _one_file(
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        1_648_877,
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    "svhn": _one_file(
        "svhn",
        "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        64_275_384,
        "eb5a983be6a315427106f1b164d9cef3",
    ),
    "textures": Archive(
        name="textures",
        url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        file="dtd-r1.0.1.tar.gz",
        size=625_239_812,
        md5="fff73e5086ae6bdbea199a49dfb8a4c1",
        folder="dtd/images",
        members=None,
    ),
    "places365": Archive(
        name="places365",
        url="http://data.csail.mit.edu/places/places365/val_256.tar",
        file="val_256.tar",
        size=525_158_400,
        md5="e27b17d8d44f4af9a78502beb927f808",
        folder="val_256",
        members=None,
    ),
    "tiny-imagenet": Archive(
        name="tiny-imagenet",
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        file="tiny-imagenet-200.zip",
        size=248_100_043,
        md5="90528d7ca1a48142e341f4ef8d21d0de",
        folder="tiny-imagenet-200/val/images",
        members=None,
    ),
    "resnet50-cifar100": _own_model(
        "resnet50-cifar100",
        27_269_120,
        "92bb16d848ad1bc46216335884e6a5f7",
        {
            "README.md": "2457cd225b55102344fc6a55fcfdff7e",
            "backbone.tflite": "714e67b155a8014f2c10107ea6c30811",
            "head.npz": "7ca12e7de1e80565c203d64dcbf25473",
            "head_int8.npz": "1a5e910c5a6fda475f07146b87076bd6",
            "model.json": "013495a37a41d83e32dd63705b723cd5",
        },
    ),
    "efficientnet-b0-cifar100": _own_model(
        "efficientnet-b0-cifar100",
        6_502_400,
        "3ad3da62448db4429609c088c7f6148d",
        {
            "README.md": "c7c11d922f020807b6db53b317063922",
            "backbone.tflite": "bfcf7dac5b258e4bba3f7acf88d9087a",
            "head.npz": "3ff040e1c5c9866e8ef0550c772cef4d",
            "head_int8.npz": "9d6fbc4a483a4155d94f1941ac3d7ae6",
            "model.json": "86d792536ea7a424887e5e78e0669c04",
        },
    ),
}
"""Data sets and models. Of images of other kinds the test images, or those of validation where these have no others.

MD5 as torchvision has them, sizes as TensorFlow Datasets; the size of CIFAR-10, and both of Tiny ImageNet, as records
of several copies agree on.
"""
