"""Where the tests find what lies in the repository."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT, SUPPORT, GOLDEN = TESTS.parent, TESTS / "support", TESTS / "golden"
TINY = GOLDEN / "tiny_model"
"""A model of 100 classes that takes 32 x 32 images and is 60 kB small; its predictions mean nothing."""
