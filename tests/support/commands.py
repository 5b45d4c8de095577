"""What every command keeps to that refuses its arguments or its input."""

from fastuq import cli


def contents(folder):
    """Return the bytes of every file in a folder and below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(capsys, argv, folder=None):
    """Run a command that is refused, in one line, all files of `folder` left as they are; return the line."""
    capsys.readouterr()
    before = contents(folder) if folder else None
    assert cli.main([*argv]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("fastuq: ")
    assert folder is None or contents(folder) == before
    return said.err
