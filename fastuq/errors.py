"""Errors a user can act on: one line that says expected, found, likely cause and the way out."""

import re

LONGEST = 2000
_SECRET = re.compile(
    r"(?<=://)([^/\s:@]*):[^/\s]*(?=@)"  # of user:password@
    r"|([?&][^=&\s]*(?:sig|token|credential|key|passw|secret|auth)[^=&\s]*)=[^&\s]*",  # of a signed query
    re.IGNORECASE,
)


def printable(text: object) -> str:
    """Return a text with its control characters written out, line feeds too: names of files and classes hold any."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def without_secrets(text: str) -> str:
    """Return a text without the passwords and signatures of the addresses in it."""
    return _SECRET.sub(lambda found: f"{found[1]}:..." if found[2] is None else f"{found[2]}=...", text)


def one_line(text: object) -> str:
    """Return a text as one line without control characters and secrets, whatever the file it quotes from holds."""
    line = without_secrets(" ".join(printable(text).split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def short(error: object, most: int = 120) -> str:
    """Return what there is to say of an error or value from a file that may be hostile: one short line."""
    return " ".join(str(error).split())[:most] or type(error).__name__


class FastUQError(Exception):
    """Base of every error that the command line prints as one line (exit 2)."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class InputError(FastUQError):
    """Arguments, images, labels or arrays that do not fit."""


class ModelError(FastUQError):
    """A model folder that is missing, incomplete, foreign or altered."""


class CacheError(FastUQError):
    """A feature cache that is incomplete, stale, corrupt or foreign."""


class BusyError(CacheError):
    """A feature cache that another process is writing: the same may work a moment later."""


class DownloadError(FastUQError):
    """A download that did not arrive, or arrived with another checksum."""


class RemoteError(FastUQError):
    """Another machine that does not answer, does not let in, or has not what is asked for."""


class NotThereError(RemoteError):
    """Another machine has nothing where an address says."""


class MissingExtraError(FastUQError):
    """An optional dependency that this command needs is not installed."""
