"""Work on its way to other machines, packed, and the model that goes with it."""

import pickle
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from fastuq import __version__
from fastuq.errors import InputError
from fastuq.model.model import Model


@dataclass(frozen=True)
class Luggage:
    """Work as bytes, which every worker unpacks once; its fastuq and LiteRT have to be those that packed it.

    Attributes
    ----------
    packed : bytes
    versions : tuple of str
    """

    packed: bytes
    versions: tuple[str, ...]

    @classmethod
    def of(cls, work: Any) -> "Luggage":
        """Pack work."""
        return cls(pickle.dumps(work), _versions())

    @cached_property
    def work(self) -> Any:
        """The work; raises InputError on a machine with other versions."""
        found = _versions()
        if found != self.versions:
            raise InputError(
                f"expected {' and '.join(self.versions)}, as where the work comes from, found {' and '.join(found)}; "
                "install the same on all machines"
            )
        return pickle.loads(self.packed)

    def __reduce__(self) -> tuple[Any, ...]:
        return Luggage, (self.packed, self.versions)


@dataclass(frozen=True, repr=False)
class CarriedModel(Model):
    """A model that holds its backbone, for machines where its folder is not."""

    backbone: bytes = b""

    @classmethod
    def of(cls, model: Model) -> "CarriedModel":
        """Return the same model with its backbone, whose SHA-256 is checked."""
        return cls(**vars(model), backbone=model.read_backbone())

    def read_backbone(self) -> bytes:
        """Return the backbone."""
        return self.backbone


def _versions() -> tuple[str, ...]:
    return f"fastuq {__version__}", f"LiteRT {version('ai-edge-litert')}"
