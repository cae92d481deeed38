"""`atoll site budget`: how much answers with noise may tell about one person in a data set, and what was spent."""

from __future__ import annotations

from typing import Annotated

import typer

from atoll.cli.site import HomeOption

app = typer.Typer(no_args_is_help=True, help="Set and show the privacy budgets (隐私预算) of this site's data sets.")

DataArgument = Annotated[str, typer.Argument(help="The data set's name, as `atoll data list` shows it.")]
WORDS = {"reserve": "reserved", "spend": "spent", "release": "released"}


@app.command("set")
def set_(
    data: DataArgument,
    epsilon: Annotated[float, typer.Option(help="ε: what all answers together may tell about one person; 0.5 to 5.")],
    delta: Annotated[
        float, typer.Option(help="δ: below one over the number of people, such as 1e-6; 0 allows Laplace noise only.")
    ] = 0.0,
    home: HomeOption = None,
) -> None:
    """Set how much may be told; what was spent before stays spent."""
    from atoll.node.document import decode
    from atoll.node.home import Home
    from atoll.privacy.accountant import Limit

    found = Home.find(home)
    found.catalogue.get(data)
    found.budgets.set(data, decode({"epsilon": epsilon, "delta": delta}, Limit, "the budget"))
    typer.echo(f"{data} at {found.site().name}: {found.budgets.accounts()[data].sentence()}")


@app.command("show")
def show(
    data: DataArgument,
    tight: Annotated[
        bool, typer.Option("--tight", help="Also compute the least ε of all answers, as if fixed in advance.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Show what a data set's budget was spent on."""
    from atoll.cli.output import table
    from atoll.core.errors import InputError
    from atoll.node.home import Home
    from atoll.privacy.tight import tight_epsilon_of

    found = Home.find(home)
    account = found.budgets.accounts().get(data)
    if account is None:
        raise InputError(
            f"data set {data} has no privacy budget", cure=f"`atoll site budget set {data} --epsilon 1` sets one."
        )
    rows = [
        (part.at[:16].replace("T", " "), part.job, part.to, str(part.loss), WORDS[part.state]) for part in account.parts
    ]
    if rows:
        typer.echo(table(("when (UTC)", "job", "answer to", "loss", ""), rows) + "\n")
    typer.echo(account.sentence())
    if tight and account.limit:
        if not account.limit.delta:
            raise InputError("without δ, the least ε is the sum", cure="Leave --tight out, or set a budget with a δ.")
        least = tight_epsilon_of(account.losses(), account.limit.delta)
        typer.echo(f"Had all answers been fixed in advance, they would come to ε = {least:.3g}.")


@app.command("list")
def list_(home: HomeOption = None) -> None:
    """List the data sets that have a budget."""
    from atoll.cli.output import table
    from atoll.node.home import Home

    accounts = Home.find(home).budgets.accounts()
    rows = [
        (data, f"{one.limit.epsilon:g}", f"{one.limit.delta:g}", f"{one.spent():.1%}", len(one.losses()))
        for data, one in sorted(accounts.items())
        if one.limit
    ]
    typer.echo(table(("data set", "ε", "δ", "spent", "answers"), rows) if rows else "no data set has a privacy budget")


@app.command("release")
def release(data: DataArgument, home: HomeOption = None) -> None:
    """Free what jobs that were cut off had reserved and not spent; one that still runs is then refused."""
    from atoll.node.home import Home

    budgets = Home.find(home).budgets
    count = budgets.release(data)
    typer.echo(f"{count} reserved part{'' if count == 1 else 's'} of the budget of {data} released")
