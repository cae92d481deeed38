"""Pictures of the documentation that show what an attack recovered: `python -m bench.pictures`.

Each row of pictures is a PNG inside of one SVG with its captions.
"""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from bench import digits, inversion
from bench.attack_pictures import EPSILON, NETWORK, SITES, added, honest, led_astray, plainly, trapped, with_noise
from bench.harness import ROOT

PATH = ROOT / "docs" / "images" / "inversion.svg"
SHOWN, ROWS, SCALE = 8, 8, 6
LEFT, HEIGHT = 430, 78


@dataclass(frozen=True)
class Strip:
    """One row: what is seen, in two languages, and the pictures worked out from it, (n, 64)."""

    english: str
    chinese: str
    pictures: NDArray[np.float64]
    note: str


def png(grey: NDArray[np.uint8]) -> bytes:
    """Return a picture of shades of grey, (height, width), as a PNG file."""
    height, width = grey.shape
    lines = b"".join(b"\0" + row.tobytes() for row in grey)
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def in_a_row(pictures: NDArray[np.float64], scale: int = SCALE, gap: int = 2) -> NDArray[np.uint8]:
    """Return pictures of 8 × 8 side by side, dark on light, each pixel `scale` wide; gaps are white."""
    tiles = 1 - np.clip(pictures, 0, 1).reshape(-1, 8, 8)
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, gap)), constant_values=1.0)
    whole = np.round(255 * np.hstack(list(padded))[:, :-gap]).astype(np.uint8)
    return whole.repeat(scale, axis=0).repeat(scale, axis=1)


def strips() -> list[Strip]:
    """What an onlooker recovers of one site's first pictures, under each protection."""
    x, _, public, _ = digits.digits()
    originals, mine = x[:SHOWN], x[:ROWS]
    fair, trap = honest(0), trapped(0)
    whole = partial(added, rows=ROWS, sites=SITES)
    led = led_astray(trap, ROWS, SITES, bound=True)
    noisy = with_noise(trap, ROWS, SITES)
    seen = (
        ("Plain: the update of one site", "明文平均：单方更新可见", plainly(fair, ROWS), False),
        ("Plain, and the network is a trap", "明文平均，恶意模型", plainly(trap, ROWS), True),
        (f"Secure sum of {SITES} sites", f"安全聚合，{SITES} 方", whole(fair), False),
        ("Secure sum, the network is a trap for all", "安全聚合，恶意模型", whole(trap), True),
        ("Secure sum, the hub leads one site astray", "安全聚合，恶意聚合方", led, True),
        (f"Secure sum and noise of ε = {EPSILON:g}, a trap for all", "安全聚合加差分隐私，恶意模型", noisy, True),
    )
    guess = inversion.score(mine, public[: NETWORK.hidden])
    found = [
        Strip("The site's pictures", "原始图像", originals, ""),
        Strip("Nothing seen", "未见任何信息", guess.pictures, f"nearest of 64 pictures of others, {guess.psnr:.0f} dB"),
    ]
    for english, chinese, update, bins in seen:
        score = inversion.score(mine, _candidates(update, bins))
        share = round(score.recovered * ROWS)
        found.append(
            Strip(english, chinese, score.pictures[:SHOWN], f"{share} of {ROWS} recovered, {score.psnr:.0f} dB")
        )
    return found


def _candidates(update: NDArray, bins: bool) -> NDArray[np.float64]:
    weights, biases, *_ = NETWORK.split(update)
    return (inversion.inputs_of_bins if bins else inversion.inputs_of_neurons)(weights, biases)


def svg(rows: Sequence[Strip]) -> str:
    """Return a picture with one line for each row."""
    wide, tall = LEFT + 8 * SHOWN * SCALE + 2 * (SHOWN - 1) * SCALE + 24, HEIGHT * len(rows) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" role="img" aria-labelledby="t d" '
        "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"15\">",
        '  <title id="t">Pictures worked out from training</title>',
        '  <desc id="d">Each line shows the same eight handwritten digits, as far as an onlooker recovers them: '
        + escape("; ".join(f"{row.english}: {row.note or 'the originals'}" for row in rows)) + ".</desc>",
        f'  <rect width="{wide}" height="{tall}" rx="14" fill="#ffffff"/>',
    ]  # fmt: skip
    for k, row in enumerate(rows):
        top, image = 18 + HEIGHT * k, in_a_row(row.pictures)
        data = base64.b64encode(png(image)).decode()
        lines += [
            f'  <text x="20" y="{top + 16}" fill="#004d40" font-weight="700">{escape(row.english)}</text>',
            f'  <text x="20" y="{top + 34}" fill="#37474f" font-size="13">{escape(row.chinese)}</text>',
            f'  <text x="20" y="{top + 51}" fill="#37474f" font-size="13">{escape(row.note)}</text>',
            f'  <image x="{LEFT}" y="{top}" width="{image.shape[1]}" height="{image.shape[0]}" '
            f'href="data:image/png;base64,{data}"/>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def main(path: Path = PATH) -> int:
    """Attack, and draw."""
    rows = strips()
    path.write_text(svg(rows), encoding="utf-8")
    for row in rows:
        print(f"{row.english}: {row.note}")
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
