"""The report as one HTML file: template, style, charts and Plotly in one, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from atoll import whole_files
from atoll.core.errors import InputError
from atoll.privacy import profiles
from atoll.report import story, words
from atoll.report.charts import Chart, charts, feature_name, party_color, used_kinds
from atoll.report.model import Performance, ReportData, StepCost

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent


def write_report(data: ReportData, path: Path) -> Path:
    """Write the report's HTML, and its record as JSON beside it.

    Equal records give equal files. Each file is complete or absent, never half written.

    Args:
        data: The report's record.
        path: Where the HTML goes; its folder is made, the JSON gets the same name with `.json`.

    Returns:
        The path of the HTML.

    Raises:
        InputError: The record contradicts itself, or the files cannot be written.
    """
    text = render(data)
    record = msgspec.json.format(msgspec.json.encode(data, order="deterministic"), indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole_files.write(path.with_suffix(".json"), record + b"\n", mode=0o644)
        whole_files.write(path, text.encode(), mode=0o644)
    except OSError as error:
        raise InputError(
            f"The report cannot be written: {error.strerror or error}",
            site=data.job.site,
            step="report",
            cure="Free some space or choose another folder.",
            detail=f"The file was to be {path}.",
        ) from error
    return path


def read_data(path: Path) -> ReportData:
    """Read a record that `write_report` stored.

    Args:
        path: The JSON file.

    Raises:
        InputError: Not such a file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=ReportData)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError("This is not the record of a report", cure="Give the .json beside a report.",
                         detail=f"{path}: {error}.") from error  # fmt: skip


def render(data: ReportData) -> str:
    """Return the report's HTML.

    Args:
        data: The report's record.

    Raises:
        InputError: The record contradicts itself.
    """
    check(data)
    data = _shortened(data)
    pictures = charts(data)
    scripts = {"plotly": _text("vendor/plotly-basic.min.js"), "draw": _text("charts.js")} if pictures else {}
    from markupsafe import Markup  # only for our own text: style, scripts and JSON made safe below

    trusted = {name: Markup(text) for name, text in scripts.items()}  # noqa: S704
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            **_context(data, pictures),
            style=Markup(_text("style.css")),  # noqa: S704
            scripts=trusted,
            chart_json=Markup(_script_json(pictures)),  # noqa: S704
            policy=_policy(scripts),
        )
    )


@cache
def _templates() -> Environment:
    """The templates, compiled once: that takes longer than to fill them in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: words.clean(value) if type(value) is str else value,
    )
    env.filters.update(
        number=words.number, percent=words.percent, signed=words.signed, size=words.size, duration=words.duration,
        moment=words.moment, listing=words.listing, short=words.short,
    )  # fmt: skip
    return env


def _shortened(data: ReportData) -> ReportData:
    """Keep the words that every sentence and table head repeats to a sane length."""
    words_of = {name: words.clean(getattr(data.job, name), 32) for name in ("subject", "positive", "negative")}
    return msgspec.structs.replace(data, job=msgspec.structs.replace(data.job, **words_of))


def check(data: ReportData) -> None:
    """Refuse a record that would print nonsense or what the site may not show.

    Raises:
        InputError: NaN or infinity anywhere, two models of one kind, pooled figures outside a demonstration,
            histories of different lengths, or an unknown profile.
    """
    profiles.get(data.job.profile)
    kinds = [found.kind for found in data.performances]
    if len(set(kinds)) != len(kinds):
        raise InputError("The report has two models of one kind", site=data.job.site, step="report")
    if "pooled" in kinds and not data.job.demo:
        raise InputError("Pooled figures belong in a demonstration only", site=data.job.site, step="report")
    if data.history and len({len(series.values) for series in data.history.series}) > 1:
        raise InputError("The training history has lines of different lengths", site=data.job.site, step="report")
    _finite(msgspec.to_builtins(data), "report", data.job.site)


def _finite(value: Any, where: str, site: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} is not a finite number", site=site, step="report")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _finite(item, f"{where}.{key}", site)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _finite(item, f"{where}[{place}]", site)


def _context(data: ReportData, pictures: Mapping[str, Chart]) -> dict[str, Any]:
    profile = profiles.get(data.job.profile)
    used = used_kinds(data)
    return {
        "data": data,
        "job": data.job,
        "charts": pictures,
        "headline": story.headline(data),
        "interval": story.interval(data),
        "kinds": story.KINDS,
        "models": used,
        "main": data.performance("partnership") or data.performance("alone"),
        "tiles": _tiles(data, used),
        "parties": _party_gains(data),
        "features": [(f, feature_name(f), party_color(data, f.site)) for f in _by_gain(data)],
        "total_gain": sum(feature.gain for feature in data.features),
        "steps": [_step(cost) for cost in data.costs],
        "peers": story.bytes_by_peer(data),
        "profile": profile,
        "technologies": [(key, profiles.TECHNOLOGIES[key], key in profile.rows) for key in profiles.TECHNOLOGIES],
        "source": profiles.SOURCE,
        "color": lambda site: party_color(data, site),
    }


def _tiles(data: ReportData, used: list[Performance]) -> list[dict[str, Any]]:
    """Return the two tiles that compare models: a scale from the worst possible value to a little over the best."""
    if not used:
        return []
    before, after = data.performance("alone"), data.performance("partnership")
    tiles = []
    for name, floor, meaning in (
        ("KS", 0.0, f"widest gap between {data.job.positive} and {data.job.negative}; 0 is chance"),
        ("AUC", 0.5, f"how often {data.job.positive} ranks above {data.job.negative}; 0.5 is chance"),
    ):
        values = {found.kind: found.ks.statistic if name == "KS" else found.auc for found in used}
        top = max(*values.values(), floor + 1e-9)
        gain = story.change(values["alone"], values["partnership"]) if before and after else None
        tiles.append(
            {
                "name": name,
                "value": values.get("partnership", values.get("alone", values.get("pooled"))),
                "gain": gain,
                "meaning": meaning,
                "floor": floor,
                "rows": [(kind, value, max(0.0, value - floor) / (top - floor)) for kind, value in values.items()],
            }
        )
    return tiles


def _by_gain(data: ReportData) -> list[Any]:
    return sorted(data.features, key=lambda feature: (-feature.gain, feature.site, feature.number))


def _party_gains(data: ReportData) -> list[dict[str, Any]]:
    total = sum(feature.gain for feature in data.features)
    rows = []
    for site in dict.fromkeys([data.job.site, *(party.site for party in data.job.parties)]):
        own = [feature for feature in data.features if feature.site == site]
        gain = sum(feature.gain for feature in own)
        if own and total > 0:
            rows.append(
                {
                    "site": site,
                    "share": gain / total,
                    "features": len(own),
                    "splits": sum(feature.splits for feature in own),
                    "color": party_color(data, site),
                }
            )
    return rows


def _step(cost: StepCost) -> dict[str, Any]:
    return {
        "name": cost.step,
        "seconds": cost.seconds,
        "sent": sum(part.sent for part in cost.traffic),
        "received": sum(part.received for part in cost.traffic),
    }


def _policy(scripts: Mapping[str, str]) -> str:
    """Return a content security policy: only these two scripts run, and nothing is fetched."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts.values())
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def _script_json(pictures: Mapping[str, Chart]) -> str:
    """Return the chart specifications as JSON that can stand inside a script element."""
    specs = [{"name": c.name, "height": c.height, "data": c.data, "layout": c.layout} for c in pictures.values()]
    text = json.dumps(_rounded(specs), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rounded(value: Any) -> Any:
    """Keep six digits: more cannot be seen and doubles the size."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
