"""docs/architecture.md names every room."""

import re

import pytest
from places import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
FILES = sorted(path for path in (ROOT / "fastuq").glob("*/**/*.py") if path.name != "__init__.py")


def rooms():
    """Return the files that the page names below the heading of each package."""
    found = set()
    for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        package = part.split("`")[1]
        found |= {f"{package}/{name}" for name in re.findall(r"^\| `(\w+\.py)` \|", part, flags=re.MULTILINE)}
    return {name for name in found if not name.endswith("__init__.py")}


def test_every_file_is_named_and_every_name_is_a_file():
    assert rooms() == {str(path.relative_to(ROOT / "fastuq")) for path in FILES}


@pytest.mark.parametrize("name", re.findall(r"\| `([\w/]+\.py)`[^|]*\|$", PAGE, flags=re.MULTILINE))
def test_the_answers_are_files(name):
    assert (ROOT / "fastuq" / name).is_file()


@pytest.mark.parametrize("page", ["docs/reliability.md", "CONTRIBUTING.md", "docs/cache-format.md", "docs/method.md"])
def test_the_tests_that_a_page_names_are_there(page):
    named = set(re.findall(r"\btest_\w+\.py\b", (ROOT / page).read_text()))
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}
