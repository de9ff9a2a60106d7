"""A page in a real browser: what it says of itself once all is laid out."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDED = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
# Written into the document once all is laid out, also with all that is folded opened.
PROBE = """<script>window.onload = () => {
  const seen = [];
  const look = () => seen.push(`${document.documentElement.scrollWidth}/${window.innerWidth}`);
  look();
  document.querySelectorAll('details').forEach(one => one.open = true);
  look();
  const images = [...document.images];
  document.body.dataset.seen = [
    seen.join(' '),
    getComputedStyle(document.body).backgroundColor,
    `${images.filter(one => one.naturalWidth > 0).length} of ${images.length} images`,
    performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:')).length + ' requests',
    Math.min(...images.map(one => one.clientWidth)) > 250 ? 'readable' : 'small',
  ].join(', ');
}</script>"""


def check(page: str, folder: Path, width: int, dark: bool, ground: str) -> None:
    """No wider than its window, with all that is folded opened too; no error, every image, nothing asked of anyone.

    Args:
      page: HTML.
      folder: for files.
      width: of the window, pixels.
      dark: whether the reader wants dark pages.
      ground: the colour that the page's ground is to have then.
    """
    # A window of Chromium's is never narrower than 500 pixels; a frame in it is as narrow as it is told.
    (folder / "page.html").write_text(page.replace("</body>", f"{PROBE}</body>"))
    (folder / "window.html").write_text(
        f"<body style='margin:0'><iframe id=frame width={width} height=900 style='border:0' src=page.html></iframe>"
        "<script>onload = () => setTimeout(() => { document.body.dataset.told ="
        " document.getElementById('frame').contentDocument.body.dataset.seen }, 200)</script>"
    )
    done = subprocess.run(
        [
            BROWSER,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
            ),
            *("--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=3000"),
            f"--user-data-dir={folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--window-size=1300,1000",
            "--dump-dom",
            f"file://{folder / 'window.html'}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = re.search(r'data-told="([^"]*)"', done.stdout)
    assert told, done.stderr
    count = page.count("<img")
    assert told[1] == f"{width}/{width} {width}/{width}, {ground}, {count} of {count} images, 0 requests, readable"
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stderr
