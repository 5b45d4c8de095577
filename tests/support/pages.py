"""Pages of reports, read back without a browser."""

import csv
import re
from html.parser import HTMLParser

VOID = {"meta", "img", "input", "br", "link", "hr", "wbr"}


class Page(HTMLParser):
    """The elements of a page: every tag with its attributes, and the text below it; nesting is checked."""

    def __init__(self, source):
        super().__init__()
        self.source, self.elements, self._open = source, [], []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        element = {"tag": tag, "attrs": dict(attrs), "text": ""}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": ""})

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, kind=None):
        """Return the elements of a tag, those of a class if one is given."""
        return [
            element
            for element in self.elements
            if element["tag"] == tag and (kind is None or kind in (element["attrs"].get("class") or "").split())
        ]

    def texts(self, tag, kind=None):
        return [element["text"] for element in self.all(tag, kind)]

    def section(self, name):
        """Return the page of one section."""
        start = self.source.index(f'<section id="{name}"')
        return Page(self.source[start : self.source.index("</section>", start) + len("</section>")])

    def table(self, start):
        """Return the page of the first table from a place of the source on."""
        start = self.source.index("<table", start)
        return Page(self.source[start : self.source.index("</table>", start) + len("</table>")])

    def rows(self):
        """Return the table of samples as one dict for each row."""
        part = self.table(self.source.index('<table id="samples"'))
        head, cells = part.texts("th"), part.texts("td")
        return [dict(zip(head, cells[n : n + len(head)], strict=True)) for n in range(0, len(cells), len(head))]

    def cards(self):
        """Return of each card the name, the decision, the predicted class, and the words of that class's bar."""
        said = []
        for source in self.source.split('<li class="card">')[1:]:
            card = Page(source[: source.index("</ul></li>") + len("</ul>")])
            (bar,) = [line for line in source[: source.index("</ul></li>")].split("<li ") if line[7:16] == "predicted"]
            words = bar.split('aria-label="')[1].split('"')[0]
            said.append((card.texts("h3")[0], card.texts("span", "badge")[0], card.texts("dd")[0], words))
        return said


def check_cards(page, path):
    """Compare the cards of a page with the rows of a CSV file of the same samples, without names; return the rows."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cards = page.cards()
    assert cards
    for name, decision, predicted, words in cards:
        row = rows[int(name.removeprefix("image "))]
        assert (decision, predicted) == (row["decision"], row["prediction_name"])
        mean, low, high = map(float, re.fullmatch(r".*: mean (\S+), interval (\S+) to (\S+)", words).groups())
        for shown, column in ((mean, "mean"), (low, "lower"), (high, "upper")):
            assert abs(shown - float(row[column])) < 6e-4, (name, column)  # three decimals are shown
    return rows
