"""Where the files that come with fastuq are: inside the installed package, or in a checkout's ``data/``."""

from pathlib import Path


def bundled_path(name: str) -> Path:
    """Return the path of bundled file or folder `name`; it exists unless the installation is incomplete."""
    inside = Path(__file__).parents[1] / "bundled" / name
    return inside if inside.exists() else Path(__file__).parents[2] / "data" / name
