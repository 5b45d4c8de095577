"""A page in headless Chromium: what it holds after a script of the test ran in it."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def ask(page, script, folder, *, width=1280, dark=False):
    """Return what a script, the body of a function, gives after the page's own script ran.

    The page lets no other script run, so that of the test is put behind the page's own, and its hash is renewed. It
    runs in a frame: windows have a least width, which phones are below.
    """
    (own,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    both = own + (
        "\n;(() => { let found; try { found = (() => {" + script + "})(); } catch (error) { found = String(error); }"
        'parent.postMessage(JSON.stringify(found), "*"); })();\n'
    )
    asked, frame = folder / "asked.html", folder / "frame.html"
    asked.write_text(page.replace(own, both).replace(_hash(own), _hash(both)), encoding="utf-8")
    frame.write_text(
        '<!DOCTYPE html><meta name="color-scheme" content="light dark"><pre id="answer"></pre><script>'
        'onmessage = (event) => { document.getElementById("answer").textContent = event.data; };</script>'
        f'<iframe src="asked.html" style="border: 0; width: {width}px; height: 900px"></iframe>'
    )
    (answer,) = re.findall(r'<pre id="answer">(.*?)</pre>', dump(frame, folder, dark=dark), re.DOTALL)
    return json.loads(html.unescape(answer))


def dump(file, folder, *, dark=False):
    """Return the source of a page after its scripts ran."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=1000"]
    done = subprocess.run([*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _hash(script):
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
