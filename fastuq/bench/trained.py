"""The paper's networks trained on CIFAR-100: where their models lie, if they are here."""

from pathlib import Path

from fastuq.datasets import data_root
from fastuq.model.folder import DESCRIPTION
from fastuq.util.bundled import bundled_path
from fastuq.util.defaults import TRAINED


def trained_folder(network: str) -> Path | None:
    """Return the model folder of a trained network, fetched or of the clone; None where there is none."""
    if network not in TRAINED:
        return None
    name = f"models/{TRAINED[network]}"
    folders = (data_root() / name, bundled_path(name))
    return next((folder for folder in folders if (folder / DESCRIPTION).is_file()), None)
