"""The report of a bundle: one HTML page that needs nothing else; and the index of all bundles."""

import html
import io
import re
import statistics
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest import bundle, generator
from loadtest.bundle import RESULTS, Cell, Result, Run
from loadtest.compare import Ratio, ratio

PERCENTILES = (1, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)
HEADLINE = ("static", "per_request", "per_request_reset", "transaction")
"""What Hopcount is put beside at the top of the index."""
BARE_SHARE = 1.25
"""Room above the highest bar for its label."""


class Theme(msgspec.Struct, frozen=True):
    """Colours of a picture."""

    name: str
    text: str
    line: str
    back: str
    series: tuple[str, ...]


LIGHT = Theme("light", "#1d2430", "#c9d0da", "#ffffff", ("#2563eb", "#d97706", "#6b7280", "#059669", "#be185d"))
DARK = Theme("dark", "#e5e9f0", "#3b4454", "#12161d", ("#6ea8fe", "#f5b14c", "#9aa5b5", "#4ade80", "#f472b6"))

Draw = Callable[[Axes, Result, Theme], None]


def to_static(result: Result, cell: int) -> Ratio | None:
    """The throughput of a cell to that of `static` in its place. None where that was not measured."""
    return to_variant(result, cell, "static")


def to_variant(result: Result, cell: int, variant: str) -> Ratio | None:
    """The throughput of a cell to that of `variant` in its place. None where that was not measured."""
    twin = msgspec.structs.replace(result.cells[cell], variant=variant)
    if result.cells[cell].variant == variant or twin not in result.cells:
        return None
    return ratio(result.throughputs(cell), result.throughputs(result.cells.index(twin)))


def write(folder: Path) -> Path:
    """Write `report.html` into the folder of a bundle: its path. Raises InvalidBundle."""
    result = bundle.read(folder)
    path = folder / "report.html"
    path.write_text(_page(result), encoding="utf-8")
    return path


def write_index(results: Path = RESULTS) -> Path:
    """Write `README.md` with a table of all bundles, and `overview.png`, the newest `redirects`: its path."""
    found = [(folder, bundle.read(folder)) for folder in bundle.committed(results)]
    lines = [
        "# Results",
        "",
        "Written by `./run bench report` from the bundles in this folder. Absolute figures belong to the machine",
        "and the minute they were measured in; what travels are the ratios, measured in alternation in one run,",
        "each with the 95 % interval (Student's) over its rounds. Every run was checked: its counts against what the",
        "clients received. One that broke a promise has no figure.",
        "",
    ]
    capacity = [(folder, result) for folder, result in found if result.scenario == "redirects"]
    if capacity:
        folder, newest = capacity[-1]
        figure = _figure(_bars, newest, LIGHT, (9, 3.8))
        figure.savefig(results / "overview.png", dpi=110)
        lines += [f"![Redirects a second, of {folder.name}](overview.png)", "", *_headline(newest), ""]
    for folder, result in reversed(found):
        lines += [
            f"## [{folder.name}]({folder.name}/result.json)",
            "",
            f"`{result.command}`",
            "",
            result.fingerprint.place,
            "",
            *_table(result),
            "",
        ]
    path = results / "README.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _headline(result: Result) -> list[str]:
    others = [name for name in HEADLINE if any(cell.variant == name for cell in result.cells)]
    lines = [
        "| keys | connections | Hopcount, redirects/s | " + " | ".join(f"to `{name}`" for name in others) + " |",
        "|---" * (3 + len(others)) + "|",
    ]
    for place, cell in enumerate(result.cells):
        if cell.variant == "hopcount":
            ratios = " | ".join(str(to_variant(result, place, name) or "") for name in others)
            lines.append(
                f"| {cell.keys.label} | {cell.connections} | {_median(result.throughputs(place).values())} | {ratios} |"
            )
    return lines


def _table(result: Result) -> list[str]:
    lines = [
        "| variant | keys | links | connections | workers | offered/s | redirects/s | p50 ms | p99 ms "
        "| CPU us: service | database | clicks a commit | errors | unsent | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for place, cell in enumerate(result.cells):
        lines.append("| " + " | ".join(_row(result, place, cell)) + " |")
    return lines


def _row(result: Result, place: int, cell: Cell) -> list[str]:
    runs = result.of(place)
    kept = [run for run in runs if run.verdict.kept]
    verdicts = sorted({run.verdict.outcome for run in runs})
    return [
        cell.variant,
        cell.keys.label,
        f"{cell.keys.links:,}",
        str(cell.connections),
        str(cell.workers),
        "" if cell.rate is None else f"{cell.rate:,.0f}",
        _median(result.throughputs(place).values()),
        _median([run.percentiles["50"] / 1000 for run in kept if run.percentiles], ".2f"),
        _median([run.percentiles["99"] / 1000 for run in kept if run.percentiles], ".2f"),
        _median([run.cost.service for run in kept if run.cost], ".1f"),
        _median([run.cost.database for run in kept if run.cost], ".1f"),
        _median([_clicks_a_commit(run) for run in kept], ".1f") if _counts(cell) else "",
        f"{sum(run.errors for run in runs):,}",
        "" if cell.rate is None else f"{sum(run.unsent for run in runs):,}",
        ", ".join(verdicts) + (" (generator limited)" if any(run.generator_limited for run in runs) else ""),
    ]


def _counts(cell: Cell) -> bool:
    return cell.variant not in ("static", "lookup")


def _clicks_a_commit(run: Run) -> float:
    return run.verdict.counted / max(1, run.activity.commits)


def _median(values: Collection[float], shape: str = ",.0f") -> str:
    return format(statistics.median(values), shape) if values else "none"


def _figure(draw: Draw, result: Result, theme: Theme, size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.back)
    axes = figure.subplots()
    axes.set_facecolor(theme.back)
    axes.tick_params(colors=theme.text, labelsize=9)
    for side in axes.spines.values():
        side.set_color(theme.line)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=theme.line, linewidth=0.6)
    axes.set_axisbelow(True)
    draw(axes, result, theme)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(theme.text)
    legend = axes.get_legend()
    if legend is not None:
        legend.get_frame().set_visible(False)
        for text in legend.get_texts():
            text.set_color(theme.text)
    return figure


def _svg(draw: Draw, result: Result, theme: Theme) -> str:
    buffer = io.StringIO()
    _figure(draw, result, theme, (9, 4)).savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    # Ids are the same in every picture of a page otherwise, and the first one's would serve for all.
    drawing = re.sub(r"<metadata>.*</metadata>", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
    drawing = drawing.replace('id="', f'id="{draw.__name__}-{theme.name}-')
    drawing = drawing.replace('href="#', f'href="#{draw.__name__}-{theme.name}-')
    return drawing.replace("url(#", f"url(#{draw.__name__}-{theme.name}-")


def _bars(axes: Axes, result: Result, theme: Theme) -> None:
    """Throughput: a group for each keys and connections, a bar for each variant, whiskers from least to most."""
    groups = list(dict.fromkeys(_group(cell) for cell in result.cells))
    names = list(dict.fromkeys(cell.variant for cell in result.cells))
    width = 0.8 / len(names)
    highest = 1.0
    for series, name in enumerate(names):
        for at, group in enumerate(groups):
            values = [
                value
                for place, cell in enumerate(result.cells)
                if cell.variant == name and _group(cell) == group
                for value in result.throughputs(place).values()
            ]
            if not values:
                continue
            middle = statistics.median(values)
            highest = max(highest, *values)
            x = at + (series - (len(names) - 1) / 2) * width
            axes.bar(x, middle, width * 0.92, color=theme.series[series % len(theme.series)],
                     label=name if at == 0 else None)  # fmt: skip
            axes.vlines(x, min(values), max(values), color=theme.text, linewidth=1)
            axes.annotate(f"{middle / 1000:.1f}k", (x, max(values)), ha="center", va="bottom", fontsize=8,
                          color=theme.text, xytext=(0, 2), textcoords="offset points")  # fmt: skip
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(0, highest * BARE_SHARE)
    axes.set_ylabel("redirects a second")
    axes.legend(ncols=len(names), loc="upper left", fontsize=9)


def _group(cell: Cell) -> str:
    return f"{cell.keys.label}, {cell.connections} conn."


def _sweep(axes: Axes, result: Result, theme: Theme) -> None:
    """Throughput over what was swept."""
    parameter = result.scenario.removeprefix("sweep-")
    series: dict[str, dict[float, list[float]]] = {}
    for place, cell in enumerate(result.cells):
        name = cell.variant.partition(":")[0] if parameter in ("batch_limit", "flushers") else cell.variant
        series.setdefault(name, {})[_swept(parameter, cell)] = list(result.throughputs(place).values())
    for (name, points), colour in zip(series.items(), theme.series * 3, strict=False):
        measured = {x: values for x, values in points.items() if values}
        axes.plot(list(measured), [statistics.median(v) for v in measured.values()], "o-", color=colour, label=name)
        axes.vlines(list(measured), [min(v) for v in measured.values()], [max(v) for v in measured.values()],
                    color=colour, linewidth=1)  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted({x for points in series.values() for x in points})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(parameter.replace("_", " "))
    axes.set_ylabel("redirects a second")
    axes.legend(fontsize=9)


def _swept(parameter: str, cell: Cell) -> float:
    if parameter == "links":
        return cell.keys.links
    if parameter in ("connections", "workers"):
        return int(getattr(cell, parameter))
    return float(cell.variant.partition(f"{parameter}=")[2].partition(",")[0])


def _costs(axes: Axes, result: Result, theme: Theme) -> None:
    """CPU a redirect, of service, database and generator."""
    kept = [(cell, [run.cost for run in result.of(place) if run.cost]) for place, cell in enumerate(result.cells)]
    kept = [(cell, costs) for cell, costs in kept if costs]
    bottom = np.zeros(len(kept))
    for part, colour in zip(("service", "database", "generator"), theme.series, strict=False):
        heights = np.array([statistics.median(getattr(cost, part) for cost in costs) for _, costs in kept])
        axes.bar(range(len(kept)), heights, 0.7, bottom=bottom, color=colour, label=part)
        bottom += heights
    labels = [f"{cell.variant}\n{_group(cell)}" + (f"\n{cell.rate:,.0f}/s" if cell.rate else "") for cell, _ in kept]
    axes.set_xticks(range(len(kept)), labels, rotation=90 if len(kept) > 6 else 0, fontsize=7)
    axes.set_ylabel("CPU, microseconds a redirect")
    axes.legend(ncols=3, fontsize=9)


def _batches(axes: Axes, result: Result, theme: Theme) -> None:
    """Clicks that share a commit."""
    counting = [(place, cell) for place, cell in enumerate(result.cells) if _counts(cell)]
    for at, (place, _) in enumerate(counting):
        sizes = [_clicks_a_commit(run) for run in result.of(place) if run.verdict.kept]
        axes.bar(at, statistics.median(sizes) if sizes else 0, 0.7, color=theme.series[0])
    labels = [
        f"{cell.variant}\n{_group(cell)}" + (f"\n{cell.rate:,.0f}/s" if cell.rate else "") for _, cell in counting
    ]
    axes.set_xticks(range(len(counting)), labels, rotation=90 if len(counting) > 6 else 0, fontsize=7)
    axes.set_ylabel("clicks a commit")


def _curves(axes: Axes, result: Result, theme: Theme) -> None:
    """Latency by percentile, the histograms of all rounds merged."""
    for place, (cell, colour) in enumerate(zip(result.cells, theme.series * 9, strict=False)):
        merged = generator.histogram()
        for run in result.of(place):
            if run.latency is not None:
                merged.add(generator.histogram(run.latency))
        if merged.get_total_count() == 0:
            continue
        label = f"{cell.variant}, " + (f"{cell.rate:,.0f}/s offered" if cell.rate else _group(cell))
        values = [merged.get_value_at_percentile(p) / 1000 for p in PERCENTILES]
        axes.plot([1 / (1 - p / 100) for p in PERCENTILES], values, "o-", markersize=3, color=colour, label=label)
    shown = (50, 90, 99, 99.9, 99.99)
    axes.set_xscale("log")
    axes.set_xticks([1 / (1 - p / 100) for p in shown], [f"{p:g} %" for p in shown])
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency, milliseconds")
    axes.legend(fontsize=9)


def _over_rate(axes: Axes, result: Result, theme: Theme) -> None:
    """Achieved rate and latency over the offered rate."""
    measured = {run.cell for run in result.runs if run.percentiles}
    places = [place for place, cell in enumerate(result.cells) if cell.rate and place in measured]
    rates = [result.cells[place].rate or 0.0 for place in places]
    for percentile, colour in zip(("50", "99", "99.9"), theme.series, strict=False):
        values = [
            statistics.median(run.percentiles[percentile] / 1000 for run in result.of(place) if run.percentiles)
            for place in places
        ]
        axes.plot(rates, values, "o-", color=colour, label=f"p{percentile}")
    axes.set_yscale("log")
    achieved = [_median(result.throughputs(place).values()) for place in places]
    failed = [sum(run.errors + run.unsent for run in result.of(place)) for place in places]
    labels = [
        f"{rate:,.0f}\n({got} achieved)" + (f"\n{missed:,} failed" if missed else "")
        for rate, got, missed in zip(rates, achieved, failed, strict=True)
    ]
    axes.set_xticks(rates, labels)
    axes.set_xlabel("offered rate, requests a second")
    axes.set_ylabel("latency, milliseconds")
    axes.legend(fontsize=9)


def _pictures(result: Result) -> list[tuple[str, Draw]]:
    pictures: list[tuple[str, Draw]] = []
    if result.scenario.startswith("sweep-"):
        pictures.append(("Capacity", _sweep))
    elif any(cell.rate for cell in result.cells):
        pictures.append(("Latency over the offered rate", _over_rate))
    else:
        pictures.append(("Capacity", _bars))
    if any(run.latency for run in result.runs):
        pictures.append(("Latency by percentile", _curves))
    if any(run.cost for run in result.runs):
        pictures.append(("CPU a redirect", _costs))
    if any(_counts(cell) for cell in result.cells):
        pictures.append(("Batch size", _batches))
    return pictures


_STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --back: #ffffff; --line: #d8dde5; --soft: #5b6675; }
@media (prefers-color-scheme: dark) { :root { --text: #e5e9f0; --back: #12161d; --line: #3b4454; --soft: #9aa5b5; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto;
       max-width: 62rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
code { overflow-wrap: anywhere; } .soft { color: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.85rem; }
th, td { text-align: right; padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
svg { width: 100%; height: auto; } .dark { display: none; }
@media (prefers-color-scheme: dark) { .light { display: none; } .dark { display: block; } }
"""


def _page(result: Result) -> str:
    broken = [run for run in result.runs if not run.verdict.kept]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Hopcount: {html.escape(result.scenario)}</title><style>{_STYLE}</style>",
        f"<h1>Hopcount: {html.escape(result.scenario)}</h1>",
        f"<p><code>{html.escape(result.command)}</code></p>",
        f"<p class='soft'>{result.started:%Y-%m-%d %H:%M} UTC, revision {html.escape(result.fingerprint.revision)}"
        f"{' with changes' if result.fingerprint.dirty else ''}, {result.rounds} rounds of {result.seconds:g} s"
        f"{html.escape(result.ending)}. Absolute figures belong to this machine and these minutes; "
        "compare within this page only.</p>",
        f"<p>{_verdicts(result, broken)}</p>",
        _html_table(result),
    ]
    for title, draw in _pictures(result):
        parts.append(f"<h2>{title}</h2>")
        parts += [f"<div class='{theme.name}'>{_svg(draw, result, theme)}</div>" for theme in (LIGHT, DARK)]
    generator_named = {"generator ceiling, requests/s": f"{result.ceiling:,.0f}"}
    parts.append("<h2>Where and with what</h2>" + _pairs(msgspec.to_builtins(result.fingerprint) | generator_named))
    parts.append("<h2>PostgreSQL</h2>" + _pairs(result.postgresql))
    return "\n".join(parts) + "\n"


def _verdicts(result: Result, broken: list[Run]) -> str:
    if broken:
        named = "; ".join(
            f"{html.escape(result.cells[run.cell].variant)}, round {run.round}: {html.escape(str(run.verdict))}"
            for run in broken
        )
        return f"<strong>Promises were broken; those runs have no figures.</strong> {named}"
    redirects = sum(run.verdict.redirected for run in result.runs)
    return f"Every promise was kept, over {redirects:,} redirects in {len(result.runs)} runs."


def _html_table(result: Result) -> str:
    heading, _, *rows = _table(result)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (heading, *rows)]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in cells[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in cells[1:])
    return f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def _pairs(values: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<div class='wide'><table>{rows}</table></div>"
