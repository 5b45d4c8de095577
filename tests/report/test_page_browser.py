"""The page in a browser: sorting, filtering, colours, the keyboard, a narrow screen, and no script but its own."""

import caches
import numpy as np
import pytest
from browser import CHROMIUM, ask, dump

from fastuq.cache import cache_features
from fastuq.datasets import ImageSet
from fastuq.report.page.write import save_report
from fastuq.scoring.scoring import score

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: chromium or google-chrome on the PATH")

N = 30
LONG = "a/very/long/name/" + "of_a_picture_without_any_space" * 4
SPLITS = [
    {
        "corruption": corruption,
        "severity": str(severity),
        "n": "100",
        "kept": str(90 - 9 * severity),
        "accuracy_plain": str(0.9 - 0.15 * severity),
        "accuracy_kept": "" if severity == 5 else "0.5",
    }
    for corruption in ("fog", "elastic_transform")
    for severity in range(1, 6)
]


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    drawn = caches.images(N)
    images = ImageSet(drawn.images, drawn.labels, drawn.class_names, "photos", [f"{LONG}{n}.png" for n in range(N)])
    with cache_features(images, model, folder / "c.h5") as cache:
        result = score(model, cache, num_iter=20, threshold=0.93, conf_factor=0.1)
        save_report(folder / "page.html", result, model, cache, images, cifar100c=SPLITS)
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_table_sorts_and_filters(page, tmp_path):
    found = ask(
        page,
        """
        const heads = [...document.querySelectorAll("#samples th")];
        const column = (name) => heads.findIndex((head) => head.textContent === name);
        const cells = (name) => [...document.querySelectorAll("#samples tbody tr")]
          .map((row) => row.cells[column(name)].textContent);
        const press = (name) => heads[column(name)].querySelector("button").click();
        const set = (id, value) => {
          const field = document.getElementById(id);
          field.value = value;
          field.dispatchEvent(new Event("input", { bubbles: true }));
        };
        const found = { visible: !document.getElementById("controls").hidden, first: cells("image") };
        press("entropy");
        found.up = [cells("entropy"), heads[column("entropy")].getAttribute("aria-sort")];
        press("entropy");
        found.down = [cells("entropy"), heads[column("entropy")].getAttribute("aria-sort")];
        press("predicted");
        found.names = cells("predicted");
        found.marked = heads.filter((head) => head.hasAttribute("aria-sort")).length;
        set("decision", "ignore");
        set("right", "wrong");
        found.left = [cells("decision"), cells("right"), document.getElementById("count").textContent];
        set("decision", ""); set("right", ""); set("words", "SPACE7.png");
        found.searched = cells("file");
        set("words", "");
        found.all = cells("image").length;
        return found;
        """,
        tmp_path,
    )
    assert found["visible"]
    assert len(set(found["first"])) == N
    up, down = (np.array(values, float) for values, _ in (found["up"], found["down"]))
    assert (np.diff(up) >= 0).all()
    assert (np.diff(down) <= 0).all()
    assert up[0] < up[-1]
    assert (found["up"][1], found["down"][1]) == ("ascending", "descending")
    assert found["names"] == sorted(found["names"])
    assert found["marked"] == 1
    decisions, right, count = found["left"]
    assert (set(decisions), set(right), count) == ({"ignore"}, {"wrong"}, f"{len(right)} of {N} rows")
    assert found["searched"] == [f"{LONG}7.png"]
    assert found["all"] == N


CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const drawn = (colours) => {  // whatever a colour is written in, as it comes out
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (colour) => {
  const [r, g, b] = colour.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  const colours = [];
  for (let at = element; at; at = at.parentElement) colours.unshift(getComputedStyle(at).backgroundColor);
  return colours;
};
const low = [];
let seen = 0;
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.textContent.trim() || element.closest("script, title, option, .skip")) continue;
  const style = getComputedStyle(element);
  if (!element.getClientRects().length) continue;
  const under = behind(element);
  const colour = element instanceof SVGElement ? style.fill : style.color;
  const ink = light(drawn([...under, colour])), paper = light(drawn(under));
  const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  seen += 1;
  if (contrast < 4.5) low.push([contrast.toFixed(2), element.outerHTML.slice(0, 120)]);
}
const paper = light(drawn([getComputedStyle(document.body).backgroundColor]));
return { low, seen, paper, width: document.documentElement.scrollWidth, window: innerWidth };
"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_text_can_be_read_and_no_page_is_wider_than_its_window(page, tmp_path, width, dark):
    found = ask(page, CONTRAST, tmp_path, width=width, dark=dark)
    assert found["seen"] > 500
    assert found["low"] == []
    assert (found["paper"] < 0.1) == dark
    assert found["width"] <= found["window"] == width


def test_a_long_name_leaves_the_other_columns_in_view(page, tmp_path):
    found = ask(
        page,
        """
        const reason = [...document.querySelectorAll("#samples th")].find((head) => head.textContent === "reason");
        const [box, cell] = [document.querySelector(".tall"), reason].map((each) => each.getBoundingClientRect().right);
        return { box, cell };
        """,
        tmp_path,
        width=1200,
    )
    assert found["cell"] <= found["box"]


def test_the_button_changes_the_colours_and_focus_is_seen(page, tmp_path):
    found = ask(
        page,
        """
        const paper = () => getComputedStyle(document.body).backgroundColor;
        const button = document.getElementById("theme"), found = [button.textContent, paper()];
        button.click();
        found.push(button.textContent, paper());
        const stops = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex]")];
        for (const stop of stops) {
          stop.focus({ focusVisible: true });
          if (document.activeElement !== stop || getComputedStyle(stop).outlineStyle !== "solid")
            found.push(stop.outerHTML);
        }
        return [...found, stops.length];
        """,
        tmp_path,
    )
    first, light, then, dark, *unseen, stops = found
    assert (first, then) == ("Dark", "Light")
    assert light != dark
    assert unseen == []
    assert stops > 15


def test_a_script_that_is_not_the_pages_own_does_not_run(page, tmp_path):
    added = '<img src="data:," onerror="document.title = 1"><script>document.title = "2"</script></body>'
    file = tmp_path / "added.html"
    file.write_text(page.replace("</body>", added), encoding="utf-8")
    shown = dump(file, tmp_path)
    assert 'id="theme" aria-label=' in shown  # the page's own script ran
    assert "predictions to trust: photos</title>" in shown
