"""`atoll protocol` and `atoll warm`: what may leave a site, in words, and its kernels."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Read what each protocol reveals before approving a job.")


@app.command("list")
def list_() -> None:
    """List the protocols."""
    from atoll.cli.output import table
    from atoll.registry import protocols

    rows = [
        (p.name, p.version, p.card.assurance + (", weak" if p.card.weak else ""), p.title) for p in protocols().values()
    ]
    typer.echo(table(("name", "version", "assurance", "what it does"), rows))


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="The protocol's name.")]) -> None:
    """Print a protocol's card: source, security, inputs, what each role learns, cost, failures."""
    from atoll.cli.output import wrap
    from atoll.core.errors import InputError
    from atoll.core.message import kind_of
    from atoll.data.scan import nearest
    from atoll.registry import protocols

    found = protocols()
    if name not in found:
        close = nearest(name, list(found))
        raise InputError(
            f"there is no protocol {name!r}",
            cure=f"Did you mean {close!r}?" if close else f"There are {', '.join(found)}.",
        )
    protocol = found[name]
    card = protocol.card
    lines = [f"{protocol.name} {protocol.version}: {protocol.title}", ""]
    if card.weak:
        lines += [*_entry("WEAK", card.weak), *_entry("", f"It runs at sites that say `atoll site allow {name}`."), ""]
    for label, text in (("Source", card.source), ("Security", card.security), ("Inputs", card.inputs)):
        lines += _entry(label, text)
    for role, sentences in card.reveals.items():
        for at, sentence in enumerate(sentences):
            lines += wrap(f"{'Reveals' if at == 0 else '':11}{role + ':' if at == 0 else ''} {sentence}", " " * 11)
    for label, text in (("Cost", card.cost), ("Fails", card.fails), ("Assurance", card.assurance)):
        lines += _entry(label, text)
    for note in card.notes:
        lines += _entry("Note", note)
    lines += _entry("Messages", ", ".join(sorted(kind_of(kind) for kind in protocol.kinds)))
    if protocol.uses:
        lines += _entry("Uses", ", ".join(inner.name for inner in protocol.uses))
    typer.echo("\n".join(lines))


def compile_kernels() -> None:
    """Compile the numeric kernels once, so that the first job starts at full speed."""
    import time

    from atoll.registry import kernels

    found = kernels()
    begun = time.perf_counter()
    for at, (module, compile_) in enumerate(found.items(), 1):
        start = time.perf_counter()
        typer.echo(f"[{at}/{len(found)}] {module.removeprefix('atoll.')} … ", nl=False)
        compile_()
        typer.echo(f"{time.perf_counter() - start:.1f} s")
    typer.echo(f"kernels are ready after {time.perf_counter() - begun:.1f} s")


def _entry(label: str, text: str) -> list[str]:
    from atoll.cli.output import wrap

    return wrap(f"{label:11}{' '.join(text.split())}", " " * 11)
