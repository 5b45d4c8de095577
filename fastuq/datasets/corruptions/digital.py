"""Digital: contrast, saturate, elastic transform, pixelate, JPEG compression."""

from io import BytesIO

import numpy as np
from scipy import ndimage

from fastuq.datasets.corruptions.common import SIZE, Generators, blur, draw, to_pixels, to_unit


def contrast(images: np.ndarray, severity: int) -> np.ndarray:
    """(x - mean) c + mean, with the mean of each channel."""
    c = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    x = to_unit(images)
    means = np.stack([one.mean(axis=(0, 1), keepdims=True) for one in x])  # summed in the order of a single image
    return to_pixels((x - means) * c + means)


def saturate(images: np.ndarray, severity: int) -> np.ndarray:
    """HSV with S c0 + c1."""
    from skimage.color import hsv2rgb, rgb2hsv

    factor, offset = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    hsv = rgb2hsv(to_unit(images))
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + offset, 0, 1)
    return to_pixels(hsv2rgb(hsv))


def elastic_transform(images: np.ndarray, severity: int, rngs: Generators) -> np.ndarray:
    """A random affine map of three points moved by up to c2, then smooth random displacements."""
    import cv2

    strength, sigma, shift = (
        (0, 0, 2.56),
        (1.6, 6.4, 2.24),
        (2.56, 1.92, 1.92),
        (3.2, 1.28, 1.6),
        (3.2, 0.96, 0.96),
    )[severity - 1]
    x = to_unit(images, np.float32)
    middle, arm = SIZE // 2, SIZE // 3
    points = np.array([[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]])
    points = points.astype(np.float32)
    moved = points + draw(rngs, lambda rng: rng.uniform(-shift, shift, (3, 2))).astype(np.float32)
    fields = draw(rngs, lambda rng: rng.uniform(-1, 1, (2, SIZE, SIZE)))
    smooth = blur(fields.reshape(-1, SIZE, SIZE), sigma, mode="reflect", truncate=3.0)
    fields = (smooth * strength).astype(np.float32).reshape(fields.shape)
    grid = np.arange(SIZE)
    rows, columns = grid[:, None] + fields[:, 1], grid + fields[:, 0]
    out = np.empty_like(x)
    for place, image in enumerate(x):
        matrix = cv2.getAffineTransform(points, moved[place])
        image = cv2.warpAffine(image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT_101)
        for channel in range(3):
            ndimage.map_coordinates(
                image[..., channel],
                (rows[place], columns[place]),
                order=1,
                mode="reflect",
                output=out[place, ..., channel],
            )
    return to_pixels(out)


def pixelate(images: np.ndarray, severity: int) -> np.ndarray:
    """Shrink to int(32 c) pixels and enlarge again, with boxes."""
    from PIL import Image

    c = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    small, full, box = (int(SIZE * c),) * 2, (SIZE, SIZE), Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(one).resize(small, box).resize(full, box)) for one in images])


def jpeg_compression(images: np.ndarray, severity: int) -> np.ndarray:
    """JPEG of quality c, written and read again."""
    from PIL import Image

    c = (80, 65, 58, 50, 40)[severity - 1]
    out = np.empty_like(images)
    for source, target in zip(images, out, strict=True):
        file = BytesIO()
        Image.fromarray(source).save(file, "JPEG", quality=c)
        target[:] = Image.open(file)
    return out
