"""Make data/images/cifar100_first20.npz from foolbox's wheel; see SOURCE.md beside it for the command."""

import re
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from fastuq.datasets.classes import CIFAR100_CLASSES
from fastuq.util.files import atomic_path

images, labels = [], []
with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = sorted(name for name in wheel.namelist() if re.fullmatch(r"foolbox/data/cifar100_\d\d_\d+\.png", name))
    for name in names:
        labels.append(int(Path(name).stem.split("_")[2]))
        with wheel.open(name) as file:
            images.append(np.asarray(Image.open(file).convert("RGB")))
output = Path(__file__).parents[1] / "data" / "images" / "cifar100_first20.npz"
with atomic_path(output) as partial, partial.open("wb") as file:
    np.savez(file, images=np.stack(images), labels=np.array(labels, np.int64), class_names=np.array(CIFAR100_CLASSES))
