"""What the golden file of the corruptions says of their pixels, and of the packages that made them."""

import hashlib
from importlib.metadata import version

from places import GOLDEN

PIXELS = GOLDEN / "corruptions.json"
PACKAGES = ("numpy", "scipy", "scikit-image", "opencv-python-headless", "pillow")


def versions():
    return {package: version(package) for package in PACKAGES}


def describe(pixels):
    return {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest()[:32], "mean": round(float(pixels.mean()), 3)}
