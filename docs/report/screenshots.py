"""Makes the screenshots of docs/report.md: needs fastuq, Pillow and Chromium."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
TABLE = HERE.parent / "reproduction" / "cifar100c-model.csv"
SHOTS = {"light": (1200, 0, 1250), "dark": (1200, 2370, 4140), "narrow": (390, 0, 1330)}
"""Width, and from where to where down the page."""

with tempfile.TemporaryDirectory() as folder:
    page, shot = Path(folder, "page.html"), Path(folder, "shot.png")
    command = [sys.executable, "-m", "fastuq", "report", "bundled", "--cifar100c", str(TABLE), "--output", str(page)]
    subprocess.run(command, check=True)
    for name, (width, top, bottom) in SHOTS.items():
        options = [
            f"--blink-settings=preferredColorScheme={0 if name == 'dark' else 1}",
            f"--window-size={width},{bottom}",
        ]
        chromium = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", *options, f"--screenshot={shot}"]
        subprocess.run([*chromium, page.as_uri()], check=True, capture_output=True)
        with Image.open(shot) as picture:
            part = picture.convert("RGB").crop((0, top, width, bottom))
        part.quantize(256, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)
