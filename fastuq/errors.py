"""Errors a user can act on: one line that says expected, found, likely cause and the way out."""


class FastUQError(Exception):
    """Base of every error that the command line prints as one line (exit 2)."""


class InputError(FastUQError):
    """Arguments, images, labels or arrays that do not fit."""


class ModelError(FastUQError):
    """A model folder that is missing, incomplete, foreign or altered."""


class CacheError(FastUQError):
    """A feature cache that is incomplete, stale, corrupt or foreign."""


class DownloadError(FastUQError):
    """A download that did not arrive, or arrived with another checksum."""


class MissingExtraError(FastUQError):
    """An optional dependency that this command needs is not installed."""
