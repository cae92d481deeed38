"""`atoll site`: who this site is and whom it trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make this site, trust other sites, allow weak protocols.")

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="The site's folder. Default: $ATOLL_HOME, else ./.atoll", show_default=False),
]


@app.command("init")
def init(
    name: Annotated[str, typer.Argument(help="The site's name, as the partners will write it in jobs.")],
    address: Annotated[str, typer.Option(help="host:port where the other sites reach this one; the only open port.")],
    home: HomeOption = None,
) -> None:
    """Make a site: its key, its certificate and its card."""
    from atoll.node.home import Home
    from atoll.transport.site import CARD, init_site

    folder = Home.find(home).folder
    made = init_site(folder, name, address)
    typer.echo(f"site {name} lives in {folder}")
    typer.echo(f"card         {folder / CARD}   (send it to your partners)")
    typer.echo(f"fingerprint  {made.card.fingerprint}")


@app.command("card")
def card(home: HomeOption = None) -> None:
    """Print this site's card, the file that partners need."""
    from atoll.node.home import Home

    typer.echo(Home.find(home).site().card.text(), nl=False)


@app.command("trust")
def trust(
    file: Annotated[Path, typer.Argument(help="A card file that a partner sent.")],
    home: HomeOption = None,
    replace: Annotated[bool, typer.Option(help="Accept a new key under a known name.")] = False,
) -> None:
    """Trust another site's card; compare the fingerprint by telephone first."""
    from atoll.core.identity import read_card
    from atoll.node.home import Home

    site, card = Home.find(home).site(), read_card(file)
    site.trust(card, replace=replace)
    typer.echo(f"{site.name} trusts {card.name} at {card.address} until {card.expires:%Y-%m-%d}")
    typer.echo(f"fingerprint  {card.fingerprint}")


@app.command("allow")
def allow(
    protocol: Annotated[str, typer.Argument(help="A weak protocol's name, such as salted-hash-intersection.")],
    home: HomeOption = None,
) -> None:
    """Let this site's jobs use a weak protocol; without this they are refused before anything is sent."""
    from atoll.cli.output import wrap
    from atoll.node.home import Home
    from atoll.node.policy import named

    found = Home.find(home)
    name = found.site().name
    found.decide(found.policy().allowing(protocol))
    lines = [f"{name} allows {protocol} in its jobs from now on", *wrap(f"weak  {named(protocol).card.weak}", " " * 6)]
    typer.echo("\n".join(lines))


@app.command("refuse")
def refuse(
    protocol: Annotated[str, typer.Argument(help="The protocol's name.")],
    home: HomeOption = None,
) -> None:
    """Take back what `allow` said."""
    from atoll.node.home import Home

    found = Home.find(home)
    name = found.site().name
    found.decide(found.policy().refusing(protocol))
    typer.echo(f"{name} refuses jobs that use {protocol}")


@app.command("show")
def show(home: HomeOption = None) -> None:
    """Show this site, the sites it trusts, and what it allows."""
    from atoll.cli.output import table
    from atoll.node.home import Home

    found = Home.find(home)
    site = found.site()
    rows = [("this site", site.card), *(("trusted", card) for card in site.trusted().values())]
    typer.echo(
        table(
            ("", "name", "address", "until", "fingerprint"),
            [(what, c.name, c.address, f"{c.expires:%Y-%m-%d}", c.fingerprint[:19] + " …") for what, c in rows],
        )
    )
    typer.echo(f"\nweak protocols allowed: {', '.join(found.policy().weak) or 'none'}")
    typer.echo(f"{len(found.catalogue.names())} data sets, {len(found.finished())} finished jobs in {found.folder}")
