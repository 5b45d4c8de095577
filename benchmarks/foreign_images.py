"""Images of nothing that CIFAR-100 knows, made offline: digits, textures, noise; 32 x 32, as .npz files.

Usage: python benchmarks/foreign_images.py FOLDER

Digits are scikit-learn's, enlarged four times; textures are crops of scikit-image's pictures of brick, grass and
gravel; noise is uniform, normal, or smooth in colour.
"""

import sys
from pathlib import Path

import numpy as np
from skimage import data
from skimage.transform import resize
from sklearn.datasets import load_digits

SIZE = 32
TEXTURES = ("brick", "grass", "gravel")


def digits():
    grey = (load_digits().images[:1000] * (255 / 16)).round().astype(np.uint8)
    return grey.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)[..., None].repeat(3, axis=3)


def textures(crops=220, seed=0):
    rng, found = np.random.default_rng(seed), []
    for name in TEXTURES:
        picture = getattr(data, name)()
        for _ in range(crops):
            side = int(rng.integers(48, 160))
            top, left = rng.integers(0, np.array(picture.shape) - side)
            small = resize(picture[top : top + side, left : left + side], (SIZE, SIZE), anti_aliasing=True)
            found.append((small * 255).round().astype(np.uint8)[..., None].repeat(3, axis=2))
    return np.stack(found)


def noise(each=100, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.stack([resize(rng.random((4, 4, 3)), (SIZE, SIZE, 3), order=3) for _ in range(each)])
    kinds = [rng.random((each, SIZE, SIZE, 3)), 0.5 + 0.2 * rng.standard_normal((each, SIZE, SIZE, 3)), smooth]
    return (np.clip(np.concatenate(kinds), 0, 1) * 255).round().astype(np.uint8)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (digits, textures, noise):
        images = make()
        np.savez(folder / f"{make.__name__}.npz", images=images)
        print(f"{make.__name__}: {images.shape}")


if __name__ == "__main__":
    main()
