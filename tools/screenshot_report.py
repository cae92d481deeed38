"""Make a picture of a report: python tools/screenshot_report.py report.html docs/images/report.png [--width 1280].

Needs Chromium or Chrome. Install the fonts Inter and one with Chinese characters first, or the picture shows the
browser's last choice (on Debian: apt-get install chromium fonts-inter fonts-wqy-microhei).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=6000",
)


def browser() -> str | None:
    """Return the path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


def run(page: Path, *orders: str, section: str = "", timeout: float = 120.0) -> str:
    """Open a page, or one section of it by its id, in a fresh profile; return what the browser prints."""
    program = browser()
    if program is None:
        raise SystemExit("No Chromium found. Cure: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        shown = page
        if section:
            rest = f"header, .summary, footer, main > section:not(#{section})"
            shown = Path(profile) / "section.html"
            text = page.read_text(encoding="utf-8")
            shown.write_text(text.replace("</head>", f"<style>{rest} {{ display: none; }}</style></head>", 1))
        command = [program, *FLAGS, f"--user-data-dir={profile}", *orders, shown.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise SystemExit(f"The browser failed: {done.stderr[-2000:]}")
    return done.stdout


def picture(
    page: Path, target: Path, width: int = 1280, height: int = 1600, *, dark: bool = False, section: str = ""
) -> Path:
    """Write a PNG of the upper part of a page, or a PDF if the target's name ends so."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".pdf":
        run(page, f"--print-to-pdf={target.resolve()}", "--no-pdf-header-footer")
    else:
        look = ["--blink-settings=preferredColorScheme=0"] if dark else []
        run(page, f"--window-size={width},{height}", f"--screenshot={target.resolve()}", *look, section=section)
    if not target.exists():
        raise SystemExit(f"The browser wrote no {target}")
    return target


def main() -> None:
    """Read the command line and take one picture."""
    parser = argparse.ArgumentParser(description="Make a picture of a report.")
    parser.add_argument("page", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1600, help="how much of the page to show, in pixels")
    parser.add_argument("--dark", action="store_true", help="as a reader with a dark screen sees it")
    parser.add_argument("--section", default="", help="id of the only section to show, such as learned")
    chosen = parser.parse_args()
    target = picture(chosen.page, chosen.target, chosen.width, chosen.height, dark=chosen.dark, section=chosen.section)
    sys.stdout.write(f"{target} {target.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main()
