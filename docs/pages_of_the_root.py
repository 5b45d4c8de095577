"""MkDocs hook: files that belong to the root of the repository are pages of the site too.

Their links are relative to where they lie; here they become links between pages.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/model/README.md": "bundled-model.md",
    "data/models/efficientnet-b0-cifar100/README.md": "efficientnet-b0-cifar100.md",
    "data/models/resnet50-cifar100/README.md": "resnet50-cifar100.md",
}


def on_files(files, config):
    """Add the pages."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"(?<=\]\()[^)\s]+", _link, text)))
    return files


def _link(match):
    target, hash_, anchor = match[0].partition("#")
    return PAGES.get(target, target.removeprefix("docs/")) + hash_ + anchor
