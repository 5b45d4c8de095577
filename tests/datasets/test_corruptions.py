"""The 19 corruptions: golden pixels, determinism, damage that grows, and what each is known to do."""

import json

import numpy as np
import pytest
from golden_corruptions import PIXELS, describe, versions

from fastuq.datasets import open_images
from fastuq.datasets.corruptions import CORRUPTIONS, DETERMINISTIC, RANDOM, SEVERITIES, corrupt
from fastuq.datasets.published import CIFAR100C
from fastuq.errors import InputError

pytest.importorskip("cv2", reason="needs the corruptions: pip install 'fastuq[corrupt]'")


@pytest.fixture(scope="module")
def images():
    return np.asarray(open_images("bundled").images)


@pytest.fixture(scope="module")
def everything(images):
    return {name: np.stack([corrupt(images, name, severity) for severity in SEVERITIES]) for name in CORRUPTIONS}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_golden_pixels(everything, name):
    golden = json.loads(PIXELS.read_text())
    found = [describe(pixels) for pixels in everything[name]]
    if golden["versions"] == versions():
        assert found == golden["pixels"][name]
    else:  # other releases may round otherwise; the pictures must still be the same to the eye
        assert [one["mean"] for one in found] == pytest.approx([one["mean"] for one in golden["pixels"][name]], abs=1)


def test_nineteen_are_published_and_eight_of_these_have_no_randomness():
    assert len(CIFAR100C) == 19
    assert set(CIFAR100C) <= set(CORRUPTIONS)
    assert len(set(CIFAR100C) & set(DETERMINISTIC)) == 8
    assert not set(RANDOM) & set(DETERMINISTIC)


def test_dtype_and_shape(images, everything):
    for name, pixels in everything.items():
        assert pixels.dtype == np.uint8, name
        assert pixels.shape == (5, *images.shape), name
        assert len({one.tobytes() for one in pixels}) == 5, f"{name}: two severities are the same"
        assert not np.array_equal(pixels[0], images), name


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_subset_gives_the_same_pixels(images, everything, name):
    for severity in (1, 3, 5):
        whole = everything[name][severity - 1]
        assert np.array_equal(corrupt(images[7:9], name, severity, first=7), whole[7:9])
        assert np.array_equal(corrupt(images[19:], name, severity, first=19), whole[19:])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_input_is_left_alone_and_only_the_random_ones_depend_on_the_seed(images, everything, name):
    before = images.copy()
    other = corrupt(images, name, 4, seed=1)
    assert np.array_equal(images, before)
    assert np.array_equal(other, everything[name][3]) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_the_same_picture_twice_is_corrupted_in_two_ways(images, name):
    twice = corrupt(np.repeat(images[:1], 2, axis=0), name, 5)
    assert not np.array_equal(twice[0], twice[1])


def damage(images, pixels):
    return np.abs(pixels.astype(np.int16) - images).mean(axis=(1, 2, 3, 4))


def test_damage_grows_with_severity_on_average(images, everything):
    total = np.mean([damage(images, pixels) for pixels in everything.values()], axis=0)
    assert (np.diff(total) > 1).all(), total


# Not among them by the benchmark's own parameters: saturate (first less colour, then more), elastic_transform (a larger
# affine map at severity 1), spatter (water, then mud), frost, glass_blur and motion_blur (parts of them fall).
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in (
    "saturate", "elastic_transform", "spatter", "frost", "glass_blur", "motion_blur"
)])  # fmt: skip
def test_damage_grows_for_each(images, everything, name):
    assert (np.diff(damage(images, everything[name])) > 0).all()


def test_noise_has_the_spread_it_should():
    grey = np.full((40, 32, 32, 3), 128, np.uint8)
    for severity, c in zip(SEVERITIES, (0.04, 0.06, 0.08, 0.09, 0.10), strict=True):
        pixels = corrupt(grey, "gaussian_noise", severity)
        assert pixels.std() / 255 == pytest.approx(c, rel=0.02)
        assert pixels.mean() == pytest.approx(127.5, abs=0.3)  # truncation takes half a step
    assert corrupt(grey, "speckle_noise", 5).std() / 255 == pytest.approx(0.2 * 128 / 255, rel=0.02)
    assert corrupt(grey, "shot_noise", 5).std() / 255 == pytest.approx((128 / 255 / 50) ** 0.5, rel=0.02)


def test_impulse_noise_hits_the_share_it_should():
    grey = np.full((40, 32, 32, 3), 128, np.uint8)
    for severity, c in zip(SEVERITIES, (0.01, 0.02, 0.03, 0.05, 0.07), strict=True):
        pixels = corrupt(grey, "impulse_noise", severity)
        assert (pixels == 0).mean() == pytest.approx(c / 2, rel=0.1)
        assert (pixels == 255).mean() == pytest.approx(c / 2, rel=0.1)
        assert ((pixels == 0) | (pixels == 255) | (pixels == 128)).all()


def test_blurs_leave_flat_images_flat():
    flat = np.full((3, 32, 32, 3), 200, np.uint8)
    for name in CORRUPTIONS:
        if name.endswith("_blur") or name in ("pixelate", "jpeg_compression", "elastic_transform", "contrast"):
            pixels = corrupt(flat, name, 5).astype(int)
            assert np.abs(pixels - 200).max() <= 1, name


def test_gaussian_blur_is_scikit_images(images):
    from skimage.filters import gaussian

    for severity, sigma in zip(SEVERITIES, (0.4, 0.6, 0.7, 0.8, 1), strict=True):
        expected = [
            np.uint8(np.clip(gaussian(one / 255.0, sigma=sigma, channel_axis=-1), 0, 1) * 255) for one in images
        ]
        assert np.array_equal(corrupt(images, "gaussian_blur", severity), expected)


def test_glass_blur_copies_and_does_not_swap():
    """A swap would keep the number of white pixels; the benchmark's copy does not."""
    spot = np.zeros((200, 32, 32, 3), np.uint8)
    spot[:, 16, 16] = 255
    white = (corrupt(spot, "glass_blur", 1) == 255).all(axis=-1).sum(axis=(1, 2))
    assert set(white) > {0, 1, 2}


def test_motion_blur_smears_to_one_side_only():
    spot = np.zeros((20, 32, 32, 3), np.uint8)
    spot[:, 16, 16] = 255
    pixels = corrupt(spot, "motion_blur", 5)
    assert (pixels[:, :, 17:] == 0).all()
    assert (pixels[:, 16, 16] > 30).all()
    assert pixels[:, :, :16].any(axis=(1, 2, 3)).all()


def test_black_images_survive_fog_and_spatter():
    black = np.zeros((4, 32, 32, 3), np.uint8)
    for name in ("fog", "spatter", "saturate", "brightness", "snow"):
        for severity in SEVERITIES:
            assert corrupt(black, name, severity).shape == black.shape
    assert (corrupt(black, "fog", 5) == 0).all()  # scaled by max(x), which is 0


@pytest.mark.parametrize(
    ("name", "severity", "shape", "dtype"),
    [
        ("smog", 1, (1, 32, 32, 3), np.uint8),
        ("fog", 0, (1, 32, 32, 3), np.uint8),
        ("fog", 6, (1, 32, 32, 3), np.uint8),
        ("fog", 1, (1, 64, 64, 3), np.uint8),
        ("fog", 1, (1, 32, 32, 3), np.float32),
    ],
)
def test_bad_input_is_refused(name, severity, shape, dtype):
    with pytest.raises(InputError):
        corrupt(np.zeros(shape, dtype), name, severity)
