"""The demonstration as it is told: who takes part, what happens at all sites together, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from atoll.cli.output import table
from atoll.node.progress import Rate, size, speed

MEANING = {
    "contract": "all sites signed the same job",
    "align": "found the {subject} in common; nobody learned who else is in the other tables",
    "split": "set rows aside for the test",
    "bin": "each site put its own columns into bins",
    "train": "grew trees on columns that never left their owners",
    "evaluate": "scored the test rows, fetching each side of a split without naming the row",
}
NAMES = {"alone": "own data alone", "partnership": "partnership", "pooled": "all data pooled"}


class Story:
    """Merges what the sites' processes say; a step is told when every site has done it.

    Args:
        title: headline.
        sites: the sites' names, the label holder first.
        job: name of the job's file.
    """

    def __init__(self, title: str, sites: Sequence[str], job: str) -> None:
        self.title, self.sites, self.job, self.subject = title, list(sites), job, "rows"
        self.done: dict[str, dict[str, Any]] = {}
        self.rate = Rate()
        self.status: Any = None
        self.console: Any = None
        self.terminal = sys.stdout.isatty()

    def opening(self, places: Sequence[tuple[str, int, Sequence[str], str]], subject: str) -> None:
        """Say who takes part and what each has.

        Args:
            places: name, rows, columns and label of each.
            subject: what a row is, in the plural.
        """
        self.subject = subject
        typer.echo(f"\n{self.title}\n")
        rows = []
        for name, count, columns, label in places:
            shown = ", ".join(columns[:4]) + (f" and {len(columns) - 4} more" if len(columns) > 4 else "")
            rows.append((name, f"{count:,}", (f"{label} (the label), " if label else "") + shown))
        typer.echo(table(("site", subject, "columns, which stay there"), rows, right=(1,)))
        typer.echo("\nThree processes, each with its own key and folder, talk over mutual TLS on this machine:\n")

    def __enter__(self) -> Story:
        if self.terminal:
            from rich.console import Console

            self.console = Console(highlight=False)
            self.status = self.console.status("starting three processes")
            self.status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is not None:
            self.status.stop()
            self.status = None

    def heard(self, event: Mapping[str, Any]) -> None:
        """Take in one event of one site."""
        kind, site = event["event"], event["site"]
        if kind == "done":
            told = self.done.setdefault(event["step"], {})
            told[site] = event
            if len(told) == len(self.sites):
                self.tell(event["step"], told)
        elif kind == "progress" and site == self.sites[0]:
            rate, left = self.rate.update(event["what"], event["done"], event["total"])
            self.move(f"{event['what']} {event['done']:,} of {event['total']:,}{speed(rate, left)}")
        elif kind == "step" and site == self.sites[0]:
            self.move(event["title"])
        elif kind == "waiting" and site == self.sites[0]:
            self.move("the sites are finding each other")
        elif kind == "note":
            self.say(f"  {site}: {event['text']}")

    def tell(self, step: str, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Say what a step came to, at the label holder and at the others."""
        hub, others = told[self.sites[0]], [told[site] for site in self.sites[1:]]
        seconds = max(float(event["seconds"]) for event in told.values())
        traffic = sum(int(event["sent"]) for event in told.values())
        moved = f", {size(traffic)}" if traffic else ""
        self.say(f"✓ {step:9} {MEANING.get(step, '').format(subject=self.subject)}  ({seconds:.1f} s{moved})")
        self.say(f"{'':12}{self.sites[0]}: {hub['text']}")
        if step in ("bin", "train"):
            for event in others:
                self.say(f"{'':12}{event['site']}: {event['text']}")

    def say(self, text: str) -> None:
        """Print a line."""
        if self.status is not None:
            self.console.print(text, markup=False, soft_wrap=True)
        else:
            print(text, flush=True)

    def move(self, text: str) -> None:
        """Change the moving line, if there is one."""
        if self.status is not None:
            from rich.text import Text

            self.status.update(Text(text))

    def ending(self, figures: Mapping[str, Any], reports: Mapping[str, Path]) -> None:
        """Say what the partnership gained, and where the reports are."""
        rows = [
            (NAMES[kind], f"{figures[kind]['auc']:.3f}", f"{figures[kind]['ks']:.3f}")
            for kind in NAMES
            if kind in figures
        ]
        typer.echo("\n" + table((f"model of {self.sites[0]}", "AUC", "KS"), rows, right=(1, 2)))
        before, after = figures.get("alone"), figures["partnership"]
        if before and before["ks"] > 0:
            typer.echo(f"\n{gained(after['ks'] / before['ks'] - 1)}")
            typer.echo("The pooled model, which nobody could train in real life, is the yardstick.")
        if figures["vectors"]:
            used, over = figures["vectors"]
            typer.echo(f"Each partner answered {used} hidden vectors over {over:,} rows (limit: {figures['limit']}).")
        typer.echo(f"{figures['seconds']:.0f} s in all, {size(figures['bytes'])} between the sites.\n")
        typer.echo("What each site got and what it learned, one report each:")
        for name, path in reports.items():
            typer.echo(f"  {name:10} {path}")


def gained(share: float) -> str:
    """Say what the partnership did to KS.

    Args:
        share: KS of the partnership over KS of the own data, minus 1.
    """
    if share >= 0.01:
        return f"The partnership raises KS by {share:.0%}."
    return "The partnership does not raise KS here: there are too few rows for enough trees. More help: --rows 100000."
