"""Opens two built pages in Chromium: `python docs/_sphinx/smoke.py build/guide`.

The start page and that of a pattern, each on a screen of 1280 pixels and on a phone: it has its
heading and its outputs, nothing is wider than the screen, and the twins stand side by side, or one
below the other.
"""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PAGES = ("index.html", "patterns/dropout.html")
WIDE, NARROW = 1280, 500  # Chromium opens no window that is narrower
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What a page has once it is rendered, as an attribute of its own.
MEASURE = """<script>addEventListener("load", () => {
  const sides = [...document.querySelectorAll(".twins .sd-col")].slice(0, 2)
  document.documentElement.dataset.measured = JSON.stringify({
    heading: document.querySelector("h1").textContent,
    outputs: document.querySelectorAll(".cell_output").length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    width: innerWidth,
    twins: sides.map(side => side.getBoundingClientRect().y),
  })
})</script>"""


def rendered(browser: str, page: Path, width: int) -> dict:
    """What is measured of a page in a window of `width` pixels."""
    measured = page.with_name(f"measured-{page.name}")  # beside its styles
    measured.write_text(page.read_text().replace("</head>", f"{MEASURE}</head>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    try:
        with tempfile.TemporaryDirectory() as profile:
            flags += [f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom"]
            command = [browser, *flags, measured.resolve().as_uri()]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    finally:
        measured.unlink()
    return json.loads(html.unescape(re.search(r'data-measured="(.*?)"', done.stdout)[1]))


def faults(found: dict, page: str, width: int) -> list[str]:
    """What is wrong with a page, in words."""
    said = []
    if not found["heading"] or not found["outputs"]:
        said.append("has no heading or no output")
    if found["width"] != width:
        said.append(f"was rendered {found['width']} wide")
    if found["overflow"] > 0:
        said.append(f"is {found['overflow']} pixels wider than the window")
    if "patterns" in page:
        first, second = found["twins"]
        if (first == second) != (width == WIDE):
            said.append("has its twins in the wrong place")
    return [f"{page} at {width} pixels {each}" for each in said]


def main(site: Path) -> int:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"smoke test: none of {', '.join(BROWSERS)} is installed, no page was opened")
        return 0
    sizes = [(page, width) for page in PAGES for width in (WIDE, NARROW)]
    wrong = [each for p, w in sizes for each in faults(rendered(browser, site / p, w), p, w)]
    for each in wrong:
        print(f"smoke test: {each}", file=sys.stderr)
    if not wrong:
        print(f"smoke test: {', '.join(PAGES)} rendered at {WIDE} and {NARROW} pixels")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
