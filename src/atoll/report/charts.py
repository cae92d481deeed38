"""The charts as plain Plotly specifications; the page's script gives them colours and draws them.

A colour is written as the name of a CSS variable, "@ink" for `--ink`, so that light, dark and print agree with
the page. Every text from users or peers goes through `_label`, since Plotly reads a little HTML.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from atoll.report.model import Feature, History, Performance, ReportData, SurvivalCurves
from atoll.report.story import KINDS
from atoll.report.words import clean, number, percent

_LINES = {
    "alone": {"color": "@alone", "width": 2},
    "partnership": {"color": "@partnership", "width": 3},
    "pooled": {"color": "@pooled-wide", "width": 8},  # a broad band under the partnership's line
}
_PARTIES = 6  # colours; further parties start again
_TOP = 12  # features shown


@dataclass(frozen=True)
class Chart:
    """One chart: its place on the page, what it says in words, and Plotly's data and layout."""

    name: str
    spoken: str
    height: int
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def charts(data: ReportData) -> dict[str, Chart]:
    """Return every chart for which there is data, by name."""
    found: list[Chart | None] = [
        _roc(data),
        _ks(data),
        _lift(data),
        _bands(data),
        _calibration(data),
        _features(data),
        _history(data.history),
        *(_survival(found, at) for at, found in enumerate(data.survivals, 1)),
    ]
    return {chart.name: chart for chart in found if chart is not None}


def party_color(data: ReportData, site: str) -> str:
    """Return the CSS variable of a party's colour: the report's own site first, then as in the contract."""
    others = [party.site for party in data.job.parties if party.site != data.job.site]
    order = [data.job.site, *others]
    return f"party-{order.index(site) % _PARTIES + 1 if site in order else _PARTIES}"


def feature_name(feature: Feature) -> str:
    """Own columns by name, other sites' by their opaque number."""
    return clean(feature.name) if feature.name else f"{clean(feature.site, 40)} · feature {feature.number}"


def _label(text: str, limit: int = 30) -> str:
    return html.escape(clean(text, limit))


def _group(data: ReportData, *, good: bool, end: str = "") -> str:
    """Bad customers, good customers: as the job calls them."""
    word = data.job.negative if good else data.job.positive
    return _label(" ".join((word, data.job.subject, end)).strip(), 60).capitalize()


def _rate(data: ReportData) -> str:
    return _label(f"{data.job.positive} rate", 40).capitalize()


def _axis(title: str = "", **more: Any) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 12}, **more}


_SHARE: dict[str, Any] = {"range": [0, 1.005], "tickformat": ".0%", "nticks": 6}


def _diagonal(end: float = 1.0) -> dict[str, Any]:
    line = {"color": "@muted", "width": 1, "dash": "dash"}
    return {"type": "line", "x0": 0, "y0": 0, "x1": end, "y1": end, "line": line, "layer": "below"}


def _legend(where: str) -> dict[str, Any]:
    corners = {"bottom": {"x": 0.98, "xanchor": "right", "y": 0.04, "yanchor": "bottom"}}
    above = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    return corners.get(where, above)


def _roc(data: ReportData) -> Chart | None:
    if not data.performances:
        return None
    lines = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": list(found.roc.false_positive_rate),
            "y": list(found.roc.true_positive_rate),
            "name": f"{KINDS[found.kind]}  {found.auc:.3f}",
            "line": _LINES[found.kind],
            "legendrank": list(KINDS).index(found.kind),
            "hovertemplate": "finds %{y:.1%}, flags %{x:.1%} in error<extra></extra>",
        }
        for found in sorted(data.performances, key=lambda found: found.kind != "pooled")
    ]
    layout = {
        "xaxis": _axis(_group(data, good=True, end="flagged"), **_SHARE),
        "yaxis": _axis(_group(data, good=False, end="found"), **_SHARE),
        "shapes": [_diagonal()],
        "legend": {**_legend("bottom"), "title": {"text": "AUC"}},
    }
    spoken = "ROC curves. AUC " + ", ".join(f"{KINDS[p.kind].lower()} {p.auc:.3f}" for p in data.performances)
    return Chart("roc", spoken, 380, lines, layout)


def _ks(data: ReportData) -> Chart | None:
    found = data.performance("partnership") or data.performance("alone")
    if found is None:
        return None
    at, ks = found.ks.rows_above, found.ks
    curve = found.ks_curve
    traces = [
        _share_line(curve.population, curve.positives, _group(data, good=False), "@bad"),
        _share_line(curve.population, curve.negatives, _group(data, good=True), "@good"),
    ]
    gap = {
        "type": "line", "x0": at, "x1": at, "y0": ks.negatives_above, "y1": ks.positives_above,
        "line": {"color": "@ink", "width": 2},
    }  # fmt: skip
    note = {
        "x": at, "y": 0.8 * ks.positives_above + 0.2 * ks.negatives_above, "text": f"<b>KS {ks.statistic:.3f}</b>",
        "showarrow": False, "xanchor": "left", "xshift": 8, "bgcolor": "@paper", "borderpad": 2,
    }  # fmt: skip
    layout = {
        "xaxis": _axis(f"{_label(data.job.subject).capitalize()}, highest score first", **_SHARE),
        "yaxis": _axis("Share found so far", **_SHARE),
        "shapes": [_diagonal(), gap],
        "annotations": [note],
        "legend": _legend("bottom"),
    }
    spoken = f"KS curve, {KINDS[found.kind].lower()}: widest gap {ks.statistic:.3f} at the top {at:.0%}"
    return Chart("ks", spoken, 380, traces, layout)


def _share_line(x: tuple[float, ...], y: tuple[float, ...], name: str, color: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": name,
        "line": {"color": color, "width": 2.5},
        "hovertemplate": f"%{{y:.1%}} of {name.lower()} in the top %{{x:.1%}}<extra></extra>",
    }  # fmt: skip


def _lift(data: ReportData) -> Chart | None:
    shown = [found for found in data.performances if found.gains and found.kind != "pooled"]
    if not shown:
        return None
    bars = [
        {
            "type": "bar",
            "x": [row.group for row in found.gains],
            "y": [row.lift for row in found.gains],
            "name": KINDS[found.kind],
            "marker": {"color": f"@{found.kind}"},
            "hovertemplate": "tenth %{x}: %{y:.2f} times the average<extra></extra>",
        }
        for found in shown
    ]
    average = {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1,
        "line": {"color": "@muted", "width": 1, "dash": "dash"},
    }  # fmt: skip
    layout = {
        "xaxis": _axis(f"Tenth of {_label(data.job.subject)}, highest score first", dtick=1, showgrid=False),
        "yaxis": _axis(f"{_rate(data)}, times the average", rangemode="tozero", nticks=6),
        "shapes": [average],
        "bargap": 0.25,
        "bargroupgap": 0.08,
        "legend": _legend("top"),
    }
    top = ", ".join(f"{KINDS[found.kind].lower()} {found.gains[0].lift:.2f}" for found in shown)
    return Chart("lift", f"Lift by tenth. Top tenth: {top}", 340, bars, layout)


def _bands(data: ReportData) -> Chart | None:
    found = data.performance("partnership") or data.performance("alone")
    if found is None or not found.bands:
        return None
    rates = [band.rate or 0.0 for band in found.bands]
    base = found.positives / found.rows
    names = [str(i) for i in range(1, len(found.bands) + 1)]
    bars = {
        "type": "bar", "x": names, "y": rates, "marker": {"color": "@partnership"},
                "customdata": [[number(band.rows), number(band.positives)] for band in found.bands],
        "hovertemplate": "band %{x}: %{customdata[1]} of %{customdata[0]}, %{y:.1%}<extra></extra>",
    }  # fmt: skip
    average = {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": base, "y1": base,
        "line": {"color": "@muted", "width": 1, "dash": "dash"},
    }  # fmt: skip
    note = {
        "xref": "paper", "x": 0, "xanchor": "left", "y": base, "yanchor": "bottom", "showarrow": False,
        "text": f"average {percent(base)}", "font": {"color": "@muted"},
    }  # fmt: skip
    layout = {
        "xaxis": _axis("Score band, lowest score first", type="category", showgrid=False),
        "yaxis": _axis(_rate(data), tickformat=".0%", rangemode="tozero", nticks=6),
        "shapes": [average],
        "annotations": [note],
        "bargap": 0.3,
        "showlegend": False,
    }
    spoken = f"{_rate(data)} by score band, from {percent(rates[0])} to {percent(rates[-1])}, average {percent(base)}"
    return Chart("bands", spoken, 340, [bars], layout)


def _calibration(data: ReportData) -> Chart | None:
    shown = [p for p in data.performances if p.calibration and p.kind != "pooled"]
    if not shown:
        return None
    traces: list[dict[str, Any]] = []
    end = 0.05
    for found in shown:
        bins = found.calibration.bins if found.calibration else ()
        end = max(end, *(max(part.predicted, part.observed) for part in bins))
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": KINDS[found.kind],
                "x": [part.predicted for part in bins], "y": [part.observed for part in bins],
                "line": {**_LINES[found.kind], "width": 1.5}, "marker": {"size": 8, "color": f"@{found.kind}"},
                "hovertemplate": "predicted %{x:.1%}, observed %{y:.1%}<extra></extra>",
            }
        )  # fmt: skip
    end = min(1.0, end * 1.08)
    share = {"range": [0, end], "tickformat": ".0%", "nticks": 6}
    layout = {
        "xaxis": _axis(f"Predicted {_rate(data).lower()}", **share),
        "yaxis": _axis(f"Observed {_rate(data).lower()}", **share),
        "shapes": [_diagonal(end)],
        "legend": _legend("bottom"),
    }
    errors = ", ".join(
        f"{KINDS[p.kind].lower()} {percent(p.calibration.expected_error, 2)}" for p in shown if p.calibration
    )
    return Chart("calibration", f"Calibration. Expected calibration error {errors}", 340, traces, layout)


def _features(data: ReportData) -> Chart | None:
    total = sum(feature.gain for feature in data.features)
    if total <= 0:
        return None
    shown = sorted(data.features, key=lambda f: (-f.gain, f.site, f.number))[:_TOP]
    place = list(range(len(shown), 0, -1))
    bars = {
        "type": "bar", "orientation": "h", "y": place, "x": [feature.gain / total for feature in shown],
        "marker": {"color": [f"@{party_color(data, feature.site)}" for feature in shown]},
        "text": [percent(feature.gain / total) for feature in shown], "textposition": "outside", "cliponaxis": False,
        "customdata": [[_label(feature.site), number(feature.splits)] for feature in shown],
        "hovertemplate": "%{customdata[0]}: %{x:.1%} of the gain, %{customdata[1]} splits<extra></extra>",
    }  # fmt: skip
    names = [_label(f.name) if f.name else f"{_label(f.site, 18)} · feature {f.number}" for f in shown]
    layout = {
        "xaxis": _axis("Share of the model's gain", tickformat=".0%", rangemode="tozero", nticks=6),
        "yaxis": _axis(tickvals=place, ticktext=names, showgrid=False, automargin=True, ticks=""),
        "bargap": 0.35,
        "showlegend": False,
        "margin": {"l": 10, "r": 60, "t": 8, "b": 52},
    }
    best = shown[0]
    spoken = f"Gain by feature. Largest: {feature_name(best)}, {percent(best.gain / total)}"
    return Chart("features", spoken, 90 + 28 * len(shown), [bars], layout)


def _history(history: History | None) -> Chart | None:
    if history is None or not any(series.values for series in history.series):
        return None
    styles = [{"color": f"@{name}", "width": 2.25} for name in ("partnership", "pooled", "alone")]
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": _label(series.name),
            "x": list(range(1, len(series.values) + 1)), "y": list(series.values),
            "line": styles[place % len(styles)], "hovertemplate": "tree %{x}: %{y:.4f}<extra></extra>",
        }
        for place, series in enumerate(history.series)
    ]  # fmt: skip
    layout: dict[str, Any] = {
        "xaxis": _axis("Trees", rangemode="tozero", showgrid=False, nticks=8),
        "yaxis": _axis(_label(history.metric), nticks=6, hoverformat=".4f"),
        "legend": _legend("top"),
    }
    if history.best is not None:
        line = {"color": "@muted", "width": 1, "dash": "dash"}
        mark = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": history.best, "x1": history.best, "line": line}
        layout["shapes"] = [mark]
        layout["annotations"] = [
            {
                "x": history.best, "yref": "paper", "y": 0.97, "xanchor": "right", "xshift": -4, "showarrow": False,
                "text": f"best: tree {history.best}", "font": {"color": "@muted"},
            }
        ]  # fmt: skip
    rounds = max(len(series.values) for series in history.series)
    return Chart("history", f"Training history of {clean(history.metric)} over {rounds} trees", 340, traces, layout)


def _survival(found: SurvivalCurves, number_: int) -> Chart:
    """Steps down from 1, each with the band of its interval."""
    traces: list[dict[str, Any]] = []
    for place, curve in enumerate(found.curves):
        color, name = f"@party-{place % _PARTIES + 1}", _label(curve.group) or "all"
        x, keep = [0.0, *curve.times], _thin_steps(curve.survival)
        lines = {way: [1.0, *getattr(curve, way)] for way in ("low", "high", "survival")}
        x, lines = [x[i] for i in keep], {way: [y[i] for i in keep] for way, y in lines.items()}
        common = {"type": "scatter", "mode": "lines", "x": x, "legendgroup": str(place)}
        step = {"shape": "hv", "color": color}
        edge = {**common, "line": {**step, "width": 0.75, "dash": "dot"}, "showlegend": False, "hoverinfo": "skip"}
        traces += [{**edge, "y": lines["low"]}, {**edge, "y": lines["high"]}]
        hover = f"{name}: %{{y:.1%}} left after %{{x}}<extra></extra>"
        line = {**step, "width": 2.5}
        traces.append({**common, "y": lines["survival"], "name": name, "line": line, "hovertemplate": hover})
    layout = {
        "xaxis": _axis(_label(found.time, 60), rangemode="tozero", nticks=8),
        "yaxis": _axis("Share without the event", **_SHARE),
        "legend": _legend("top"),
        "showlegend": len(found.curves) > 1,
    }
    ends = ", ".join(f"{clean(c.group) or 'all'} {percent(c.survival[-1])}" for c in found.curves if c.survival)
    return Chart(f"survival-{number_}", f"{clean(found.title)}. At the end: {ends}", 400, traces, layout)


def _thin_steps(survival: tuple[float, ...], most: int = 400) -> list[int]:
    """Places of the start and of as many steps as can be seen, the last one among them."""
    n = len(survival)
    return sorted({0, n, *(round(at * n / most) for at in range(most))}) if n > most else list(range(n + 1))


def used_kinds(data: ReportData) -> list[Performance]:
    """The models in the order in which the page shows them."""
    return [found for kind in KINDS if (found := data.performance(kind)) is not None]
