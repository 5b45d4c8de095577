"""What a file or folder is, as lines to read."""

import json
from typing import Any


def about_lines(said: dict[str, Any]) -> list[str]:
    """Return what `about` or `cache_about` said as lines to read, a list of class names cut to its beginning."""
    names = said.get("class_names")
    shown = {**said, "class_names": _few(names)} if names else said
    lines = [f"{key:17} {_text(value)}" for key, value in shown.items() if key not in ("parts", "figures")]
    lines += [f"{key:17} {_text(value)}" for key, value in said.get("figures", {}).items()]
    return lines + [line for part in said.get("parts", ()) for line in ("", *about_lines(part))]


def _few(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inner(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_inner, value)) or "none"
    return _inner(value)


def _inner(value: Any) -> str:
    """Return a value as text, what is nested deeper as JSON."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    return "unknown" if value is None else str(value)
