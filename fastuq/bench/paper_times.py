"""What the paper measured: milliseconds for one sample, in one quantized pass and with uncertainty (T = 50)."""

PAPER = {
    "resnet50": {"naive_ms_per_sample": 7000, "one_pass_ms": 243},
    "efficientnet_b0": {"naive_ms_per_sample": 7940, "one_pass_ms": 196},
}
"""arXiv 2403.01076, Table XIV."""
