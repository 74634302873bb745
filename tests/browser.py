"""Headless Chromium: what it runs of a page, and how a page looks on a phone and on a screen, in light and in dark."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PHONE, SCREEN = 390, 1200
"""Widths of a window, in CSS pixels."""
SCHEMES = {"light": 1, "dark": 0}
"""Chromium's numbers for what a person prefers."""
LEAST, LEAST_LARGE = 4.5, 3.0
"""Contrast of text with what is behind it, and of large text (WCAG 2.2, 1.4.3, level AA)."""

LOOK = """
const channels = text => text.match(/[\\d.]+/g).map(Number);
const over = (front, back) => front.length < 4 ? front
  : front.slice(0, 3).map((c, i) => c * front[3] + back[i] * (1 - front[3]));
const light = color => color.slice(0, 3).map(c => c / 255)
  .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };

function behind(element, style) {
  const layers = [];
  for (let place = element; place; place = place.parentElement) {
    const own = style(place);
    if (own.backgroundImage !== "none") return null;
    const color = channels(own.backgroundColor);
    layers.push(color);
    if (color.length < 4 || color[3] === 1) break;
  }
  return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
}

function looked(frame) {
  const page = frame.contentDocument, style = element => frame.contentWindow.getComputedStyle(element);
  for (const one of page.querySelectorAll("details")) one.open = true;
  const pale = new Set(), root = page.documentElement;
  for (const element of page.body.querySelectorAll("*")) {
    const said = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
    const box = element.getBoundingClientRect(), own = style(element);
    const back = said && box.width && box.height && own.visibility === "visible" && behind(element, style);
    if (!back) continue;
    const ink = over(channels(element instanceof frame.contentWindow.SVGElement ? own.fill : own.color), back);
    const size = parseFloat(own.fontSize), large = size >= 24 || (size >= 18.66 && own.fontWeight >= 700);
    const found = contrast(ink, back);
    if (found < (large ? LEAST_LARGE : LEAST)) pale.add(`${said.slice(0, 40)}: ${found.toFixed(2)}`);
  }
  const cut = [...page.querySelectorAll(".wide")].filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => box.innerText.slice(0, 60));
  const width = root.clientWidth, sticks_out = root.scrollWidth - width;
  let shown = 0;
  for (const spot of page.querySelectorAll(".spot")) {
    spot.focus();
    const card = spot.firstChild.getBoundingClientRect(), picture = spot.querySelector("img");
    shown += card.width > 0 && card.left >= 0 && card.right <= width && picture.complete && picture.naturalWidth > 0;
  }
  return {width, page: light(behind(page.body, style)), sticks_out, cut, pale: [...pale], shown};
}

onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => [frame.title, looked(frame)]);
  document.documentElement.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(found);
};
"""


@dataclass(frozen=True)
class Look:
    """A page in a window of one width and one scheme of colours, its details opened.

    Attributes:
        width: Of the window, in CSS pixels.
        page: Luminance of its background, from 0 to 1.
        sticks_out: Pixels that are only seen by scrolling the page sideways.
        cut: The beginnings of tables and figures that are only seen whole by scrolling them sideways.
        pale: Text whose contrast is too low, with that.
        shown: Items of a map whose card, with its picture, is whole in the window once they have the focus.
    """

    width: int
    page: float
    sticks_out: int
    cut: list[str]
    pale: list[str]
    shown: int


def look(pages: Mapping[str, Path], folder: Path, width: int, scheme: str) -> dict[str, Look]:
    """How pages look, each in a frame of its own as Kubeflow shows it."""
    frames = [
        f'<iframe title="{name}" width="{width}" height="800" srcdoc="{html.escape(page.read_text(encoding="utf-8"))}">'
        "</iframe>"
        for name, page in pages.items()
    ]
    script = LOOK.replace("LEAST_LARGE", str(LEAST_LARGE)).replace("LEAST", str(LEAST))
    head = '<!DOCTYPE html><meta charset="utf-8"><style>:root { color-scheme: light dark } iframe { border: 0 }</style>'
    frame = folder / f"{width}-{scheme}.html"
    frame.write_text(f"{head}<script>{script}</script>{''.join(frames)}", encoding="utf-8")
    shown = dumped(
        frame, folder / f"browser-{width}-{scheme}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"
    )
    found = re.search(r"<pre>(.*)</pre>", shown, re.DOTALL)
    assert found, f"Chromium has not shown {frame}: {shown[:500]}"
    return {name: Look(**one) for name, one in json.loads(html.unescape(found[1]))}


def dumped(page: Path, folder: Path, *options: str) -> str:
    """A page's elements after headless Chromium has run it, or a skip where there is no Chromium.

    Args:
        page: The page.
        folder: Where Chromium keeps what it likes.
        options: Of Chromium.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on the PATH; install it to see how reports look and that they run no script")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--incognito"]
    command += [
        "--hide-scrollbars",
        f"--user-data-dir={folder}",
        "--virtual-time-budget=3000",
        *options,
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
