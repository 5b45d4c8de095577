"""The values that the paper prints (arXiv 2403.01076, version 1), as data; per cent and counts as they stand there."""

from fastuq.bench.paper_times import PAPER

RESNET50, EFFICIENTNET_B0 = "ResNet50", "EfficientNet-B0"
NUM_ITERS, CONF_FACTORS = (20, 30, 50), (0.7, 0.8, 0.9)

SIZES_MB = {RESNET50: (92.1, 23.7), EFFICIENTNET_B0: (92.2, 23.6)}
"""Table I: before and after quantization."""
ACCURACY = {RESNET50: (73, 72), EFFICIENTNET_B0: (73, 71)}
"""Table II: before and after quantization, 100 test samples."""
GRID_F1 = {0.7: (86.48, 84.21, 85.71), 0.8: (85.52, 86.84, 86.11), 0.9: (92.06, 88.23, 86.3)}
"""Table III: ResNet50, micro-F1 by conf_factor, for each of `NUM_ITERS`."""
GRID_IGNORED = {0.7: (26, 24, 23), 0.8: (24, 24, 28), 0.9: (37, 32, 27)}
"""Table IV: ResNet50, ignored of 100 samples by conf_factor, for each of `NUM_ITERS`."""
IGNORED = {RESNET50: (23, 15), EFFICIENTNET_B0: (19, 15)}
"""Table V: ignored of 100 samples, and how many of these were misclassified."""
TIMES_MS = {
    name: (PAPER[network]["one_pass_ms"], PAPER[network]["naive_ms_per_sample"])
    for name, network in ((RESNET50, "resnet50"), (EFFICIENTNET_B0, "efficientnet_b0"))
}
"""Table XIV: one sample, without and with UQ."""

_SEVERITY_1_RESNET50 = {
    "brightness": (15, 55.55, 11),
    "motion_blur": (15, 36.36, 9),
    "defocus_blur": (35, 55.55, 11),
    "gaussian_blur": (25, 37.5, 12),
    "glass_blur": (15, 42.85, 13),
    "snow": (15, 9.09, 9),
    "saturate": (20, 33.33, 14),
    "elastic_transform": (15, 33.33, 11),
    "speckle_noise": (20, 0, 19),
    "frost": (15, 22.22, 11),
    "fog": (20, 26.67, 5),
    "jpeg_compression": (20, 28.57, 13),
    "impulse_noise": (10, 100, 19),
    "zoom_blur": (30, 45.45, 9),
    "shot_noise": (0, 0, 19),
    "gaussian_noise": (0, 0, 19),
    "pixelate": (10, 33.33, 14),
    "contrast": (25, 28.57, 6),
}
_SEVERITY_1_EFFICIENTNET_B0 = {
    "brightness": (30, 46.15, 7),
    "motion_blur": (30, 50, 8),
    "defocus_blur": (40, 54.54, 9),
    "gaussian_blur": (20, 55.55, 11),
    "glass_blur": (25, 33.33, 8),
    "snow": (20, 50, 12),
    "saturate": (35, 33.33, 14),
    "elastic_transform": (35, 54.54, 9),
    "speckle_noise": (30, 80, 15),
    "frost": (25, 55.55, 11),
    "fog": (35, 53.84, 7),
    "jpeg_compression": (40, 33.33, 11),
    "impulse_noise": (20, 75, 16),
    "zoom_blur": (30, 54.54, 9),
    "shot_noise": (20, 50, 12),
    "gaussian_noise": (0, 0, 19),
    "pixelate": (40, 41.67, 8),
    "contrast": (50, 41.67, 8),
}
_SEVERITY_5_RESNET50 = {
    "brightness": (25, 50, 10),
    "motion_blur": (20, 23.07, 7),
    "defocus_blur": (20, 44.44, 11),
    "gaussian_blur": (20, 44.44, 11),
    "glass_blur": (15, 30, 10),
    "snow": (20, 28.57, 13),
    "saturate": (20, 60, 15),
    "elastic_transform": (15, 27.27, 9),
    "speckle_noise": (15, 50, 18),
    "frost": (15, 22.22, 11),
    "fog": (25, 23.07, 7),
    "jpeg_compression": (25, 28.57, 13),
    "impulse_noise": (10, 100, 19),
    "zoom_blur": (25, 44.44, 11),
    "shot_noise": (10, 100, 19),
    "gaussian_noise": (10, 0, 19),
    "pixelate": (15, 16.67, 14),
    "contrast": (10, 30, 10),
}
CORRUPTED = {
    1: {RESNET50: _SEVERITY_1_RESNET50, EFFICIENTNET_B0: _SEVERITY_1_EFFICIENTNET_B0},
    # The paper's last table repeats that of ResNet50 at severity 1 row for row, and so does this one.
    5: {RESNET50: _SEVERITY_5_RESNET50, EFFICIENTNET_B0: _SEVERITY_1_RESNET50},
}
"""Tables VI, VII (severity 1), X and XI (severity 5): 20 samples; micro-F1 without and with UQ, ignored."""
TABLE_OF = {
    (1, RESNET50): "VI",
    (1, EFFICIENTNET_B0): "VII",
    (5, RESNET50): "X",
    (5, EFFICIENTNET_B0): "XI",
}
IGNORED_CORRUPTIONS = ("defocus_blur", "snow", "elastic_transform", "gaussian_noise")
"""Tables VIII, IX, XII and XIII: misclassified among the ignored; their values are not in the text at hand."""
IGNORED_TABLES = {1: "VIII and IX", 5: "XII and XIII"}
