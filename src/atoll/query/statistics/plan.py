"""A question in SQL to a plan: what each site computes on its own rows, what is totalled, and the final arithmetic.

    select b.city, count(*), avg(t.spend) from bank b join telco t using (id) where t.tenure > 12 group by b.city

Sites are the tables.  Conditions and measures use one site's columns each and are computed there; only totals over the
join of both sites' rows, and the values at the quantiles that are asked for, are ever opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import msgspec
import sqlglot
from sqlglot import exp

from atoll.core.errors import InputError
from atoll.data.scan import nearest

LONGEST, MOST_NODES = 10_000, 500

Total = Literal["rows", "count", "sum", "offset", "square"]
"""Rows; values that are there; their sum; for variances the sums of x − c and (x − c)² around a number of the site."""


class Measure(msgspec.Struct, frozen=True):
    """One number a group, totalled over the joined rows.

    Attributes:
        site: whose columns it uses; empty for the number of rows.
        total: what is added up.
        sql: an expression over the site's columns; empty for the number of rows.
    """

    site: str
    total: Total
    sql: str


ROWS = Measure("", "rows", "")

Place = Literal["min", "max", "cont", "disc"]
"""The smallest and the largest value; a quantile between two neighbouring values; a quantile that is one of them."""


class Quantile(msgspec.Struct, frozen=True):
    """One place in the order of a site's values among the joined rows, for each group.

    Attributes:
        site: whose columns it uses.
        sql: an expression over the site's columns.
        place: how the place is told.
        at: the fraction of a quantile, 0 to 1, in decimal digits as the question has it; empty for the others.
    """

    site: str
    sql: str
    place: Place
    at: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What two sites do for a question; the same at both.

    Attributes:
        sites: the two tables, in the question's order.
        filters: (site, condition over its columns), all of which must hold.
        group_site: the site whose columns make the groups; empty without groups.
        groups: expressions over its columns.
        measures: what is totalled; the first is the number of rows.
        quantiles: which values are looked up; the number of values that are there is among the measures.
        answer: SQL over the table `totals` with columns g0, g1, …, m0, m1, … and q0, q1, …: the final arithmetic at the
            asker.
    """

    sites: tuple[str, str]
    filters: tuple[tuple[str, str], ...]
    group_site: str
    groups: tuple[str, ...]
    measures: tuple[Measure, ...]
    quantiles: tuple[Quantile, ...]
    answer: str

    def of(self, site: str) -> tuple[Measure, ...]:
        """The measures of one site, in order."""
        return tuple(measure for measure in self.measures if measure.site == site)

    def ordered(self, site: str) -> dict[str, tuple[Quantile, ...]]:
        """The expressions of one site whose values are put in order, and the quantiles of each."""
        mine = [quantile for quantile in self.quantiles if quantile.site == site]
        names = dict.fromkeys(quantile.sql for quantile in mine)
        return {sql: tuple(quantile for quantile in mine if quantile.sql == sql) for sql in names}


_PLAIN = (
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Neg, exp.Not, exp.And, exp.Or,
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In,
    exp.Between, exp.Like, exp.Case, exp.If, exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Lower, exp.Upper,
    exp.Length, exp.Coalesce, exp.Nullif,
)  # fmt: skip
"""What an expression may be made of: nothing here reads a file, calls out, or depends on anything but the row."""

_SUPPORTED = (
    "count, sum, avg, var_samp, var_pop, stddev_samp, stddev_pop, min, max, median, quantile_cont, quantile_disc"
)
_QUANTILES = (exp.Min, exp.Max, exp.Median, exp.PercentileCont, exp.PercentileDisc, exp.Quantile)
_FRACTION = re.compile(r"[01]|[01]?\.\d{1,12}")
_CLAUSES = ("expressions", "from_", "joins", "where", "group", "having", "order", "limit")


def parse(sql: str) -> Plan:
    """Make the plan of a question.

    Args:
        sql: one SELECT over two sites that are joined `using (id)`.

    Raises:
        InputError: it is no such question, or asks for what is not supported; naming the part and the cure.
    """
    return _Reader(_select(sql)).plan()


def local(sql: str, text: str, where: str) -> tuple[str, str]:
    """Return the site and the expression that a text means in a question, as its plan has them.

    Args:
        sql: the question, for its tables.
        text: an expression over columns of one site, which may stand for its table.
        where: where the text stands, for errors.

    Raises:
        InputError: it is no such expression.
    """
    try:
        tree = sqlglot.parse_one(text, read="duckdb")
    except sqlglot.ParseError:
        raise InputError(f"{where}: {text!r} is not an expression", cure="Write SITE.COLUMN.") from None
    reader = _Reader(_select(sql))
    reader.aliases = {**{site: site for site in reader.sites}, **reader.aliases}
    return reader._local(tree, where)


def _select(sql: str) -> exp.Select:
    if len(sql) > LONGEST:
        raise InputError(f"the question has more than {LONGEST:,} characters")
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except sqlglot.ParseError as cause:
        found = cause.errors[0] if cause.errors else {}
        at = f" at line {found['line']}, column {found['col']}" if "line" in found else ""
        raise InputError(
            f"the question is not SQL{at}",
            detail=str(found.get("description", cause)).rstrip(".") + ".",
            cure="Correct it there.",
        ) from None
    if not isinstance(tree, exp.Select) or sum(1 for _ in tree.walk()) > MOST_NODES:
        raise InputError("the question is not one short SELECT", cure="Ask one SELECT over two sites.")
    for clause, value in tree.args.items():
        if value and clause not in _CLAUSES:
            raise InputError(f"{clause.strip('_').upper()} is not supported in a question to two sites")
    return tree


class _Reader:
    """Reads one SELECT."""

    def __init__(self, select: exp.Select) -> None:
        self.select = select
        self.aliases = self._tables()
        self.sites: tuple[str, str] = tuple(dict.fromkeys(self.aliases.values()))  # type: ignore[assignment]
        self.measures: list[Measure] = [ROWS]
        self.quantiles: list[Quantile] = []

    def plan(self) -> Plan:
        filters = self._filters()
        keys = self.select.args["group"].expressions if self.select.args.get("group") else []
        found = [self._local(self._unaliased(key), "GROUP BY") for key in keys]
        sites = {site for site, _ in found}
        if len(sites) > 1:
            raise InputError("the groups use columns of both sites", cure="Group by columns of one site.")
        groups = tuple(sql for _, sql in found)
        answer = self._answer(groups)
        group_site, measures, quantiles = sites.pop() if sites else "", tuple(self.measures), tuple(self.quantiles)
        return Plan(self.sites, filters, group_site, groups, measures, quantiles, answer)

    def _tables(self) -> dict[str, str]:
        """Read FROM a JOIN b USING (id): alias → site."""
        source, joins = self.select.args.get("from_"), self.select.args.get("joins") or []
        tables = [source.this if source else None, *(join.this for join in joins)]
        plain = all(isinstance(table, exp.Table) and not table.db for table in tables)
        using = [key.name for join in joins for key in join.args.get("using") or []]
        inner = all(not join.side and join.kind in ("", "INNER") and not join.args.get("on") for join in joins)
        if len(tables) != 2 or not plain or using != ["id"] or not inner:
            raise InputError(
                "a question joins two sites by their ids",
                cure="Write FROM one JOIN other USING (id); `id` stands for the id columns that the job names.",
            )
        named = {table.alias_or_name: table.name for table in tables if isinstance(table, exp.Table)}
        if len(named) != 2 or len(set(named.values())) != 2:
            raise InputError("a question joins two different sites", cure="Name each site once.")
        return named

    def _filters(self) -> tuple[tuple[str, str], ...]:
        where = self.select.args.get("where")
        if where is None:
            return ()
        return (
            tuple(self._local(part, "WHERE") for part in where.this.flatten() if part)
            if isinstance(where.this, exp.And)
            else (self._local(where.this, "WHERE"),)
        )

    def _unaliased(self, key: exp.Expr) -> exp.Expr:
        """Resolve GROUP BY 1 and GROUP BY alias."""
        items = self.select.expressions
        if isinstance(key, exp.Literal) and not key.is_string and key.this.isdigit():
            at = int(key.this)
            if not 1 <= at <= len(items):
                raise InputError(f"GROUP BY {at}: the question has {len(items)} columns")
            key = items[at - 1]
        for item in items:
            if isinstance(item, exp.Alias) and isinstance(key, exp.Column) and not key.table and item.alias == key.name:
                key = item
        return key.this if isinstance(key, exp.Alias) else key

    def _local(self, node: exp.Expr, where: str) -> tuple[str, str]:
        """Return the one site whose columns an expression uses, and the expression over them in SQL."""
        for part in node.walk():
            if not isinstance(part, _PLAIN):
                raise InputError(
                    f"{where} uses {_words(part)}, which is not supported",
                    cure="Use columns, numbers, texts, arithmetic, comparisons, AND, OR, NOT, IN, LIKE, CASE.",
                )
        sites = {self._site(column) for column in node.find_all(exp.Column)}
        if len(sites) != 1:
            both = "columns of both sites" if sites else "no column"
            raise InputError(
                f"{where} has a part that uses {both}: {node.sql(dialect='duckdb')}",
                cure="Use columns of one site in each condition and in each total.",
            )
        copy = node.copy()
        for column in copy.find_all(exp.Column):
            column.set("table", None)
            column.this.set("quoted", True)
        return sites.pop(), copy.sql(dialect="duckdb")

    def _site(self, column: exp.Column) -> str:
        """The site of a column: that of its alias, else the first table."""
        if not column.table:
            return self.sites[0]
        if column.table not in self.aliases:
            close = nearest(column.table, list(self.aliases))
            raise InputError(
                f"{column.sql()}: there is no table {column.table!r}",
                cure=f"Did you mean {close!r}?" if close else f"The tables are {', '.join(self.aliases)}.",
            )
        return self.aliases[column.table]

    def _measure(self, site: str, total: Total, sql: str) -> str:
        """Have something totalled, once, and return the column that holds it."""
        measure = Measure(site, total, sql)
        if measure not in self.measures:
            self.measures.append(measure)
        return f"m{self.measures.index(measure)}"

    def _answer(self, groups: Sequence[str]) -> str:
        """Return the final arithmetic in SQL over `totals`."""
        items = []
        for item in self.select.expressions:
            name = item.alias_or_name if isinstance(item, exp.Alias | exp.Column) else item.sql(dialect="duckdb")
            items.append(f"{self._final(item, groups)} AS {exp.to_identifier(name, quoted=True).sql(dialect='duckdb')}")
        parts = [f"SELECT {', '.join(items)} FROM totals"]  # noqa: S608
        if having := self.select.args.get("having"):
            parts.append(f"WHERE {self._final(having.this, groups)}")
        if order := self.select.args.get("order"):
            parts.append("ORDER BY " + ", ".join(self._ordered(key, groups) for key in order.expressions))
        if limit := self.select.args.get("limit"):
            if not (isinstance(limit.expression, exp.Literal) and limit.expression.this.isdigit()):
                raise InputError("LIMIT is not a whole number")
            parts.append(f"LIMIT {limit.expression.this}")
        return " ".join(parts)

    def _ordered(self, key: exp.Expr, groups: Sequence[str]) -> str:
        names = [item.alias for item in self.select.expressions if isinstance(item, exp.Alias)]
        by, down = key.this, " DESC" if key.args.get("desc") else ""
        nulls = " NULLS FIRST" if key.args.get("nulls_first") else " NULLS LAST"
        if isinstance(by, exp.Literal) and not by.is_string:
            return f"{by.this}{down}{nulls}"
        if isinstance(by, exp.Column) and not by.table and by.name in names:
            return f"{exp.to_identifier(by.name, quoted=True).sql(dialect='duckdb')}{down}{nulls}"
        return self._final(by, groups) + down + nulls

    def _final(self, node: exp.Expr, groups: Sequence[str]) -> str:
        """Rewrite an output: group expressions become g0, g1, …, aggregates become arithmetic over m0, m1, …"""

        def rewrite(part: exp.Expr) -> exp.Expr:
            if isinstance(part, exp.AggFunc):
                return exp.paren(sqlglot.parse_one(self._aggregate(part), read="duckdb"))
            if not isinstance(part, _PLAIN):
                raise InputError(f"the question asks for {_words(part)}, which is not supported")
            if part.find(exp.Column) and not part.find(exp.AggFunc):
                _, sql = self._local(part, "SELECT")
                if sql in groups:
                    return exp.column(f"g{groups.index(sql)}")
                if isinstance(part, exp.Column):
                    raise InputError(
                        f"{part.sql()} is neither totalled nor grouped by", cure="Put it under GROUP BY, or total it."
                    )
            for name, value in list(part.args.items()):
                if isinstance(value, exp.Expr):
                    part.set(name, rewrite(value))
                elif isinstance(value, list):
                    part.set(name, [rewrite(v) if isinstance(v, exp.Expr) else v for v in value])
            return part

        bare = node.this if isinstance(node, exp.Alias) else node
        return rewrite(bare.copy()).sql(dialect="duckdb")

    def _aggregate(self, node: exp.AggFunc) -> str:
        """Return an aggregate as arithmetic over totals."""
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
            return "m0"
        if not isinstance(node, (exp.Count, exp.Sum, exp.Avg, exp.Variance, exp.VariancePop, exp.Stddev,
                                 exp.StddevSamp, exp.StddevPop, *_QUANTILES)):  # fmt: skip
            raise InputError(f"{_words(node)} is not supported over a hidden join", cure=f"It knows {_SUPPORTED}.")
        if isinstance(node.this, exp.Distinct) or node.expressions:
            raise InputError(f"{node.sql(dialect='duckdb')}: one plain argument is supported, no DISTINCT")
        site, sql = self._local(node.this, node.key.upper())
        n = self._measure(site, "count", sql)
        if isinstance(node, exp.Count):
            return n
        if isinstance(node, _QUANTILES):
            return self._quantile(node, site, sql)
        if isinstance(node, (exp.Sum, exp.Avg)):
            s = self._measure(site, "sum", sql)
            return f"CASE WHEN {n} = 0 THEN NULL ELSE {s} END" if isinstance(node, exp.Sum) else f"{s} / NULLIF({n}, 0)"
        s, q = self._measure(site, "offset", sql), self._measure(site, "square", sql)
        whole = isinstance(node, (exp.VariancePop, exp.StddevPop))
        alone, lost = ("0", "0") if whole else ("NULL", "1")  # of one value
        variance = (
            f"CASE WHEN {n} = 0 THEN NULL WHEN {n} = 1 THEN {alone} "
            f"ELSE GREATEST(0, {q} - {s} * {s} / {n}) / ({n} - {lost}) END"
        )
        return f"SQRT({variance})" if isinstance(node, (exp.Stddev, exp.StddevSamp, exp.StddevPop)) else variance

    def _quantile(self, node: exp.AggFunc, site: str, sql: str) -> str:
        """Have values looked up, once, and return the column that holds what comes of them."""
        given = node.args.get("expression") or node.args.get("quantile") or node.args.get("count")
        if isinstance(node, (exp.Min, exp.Max)):
            found = Quantile(site, sql, "min" if isinstance(node, exp.Min) else "max")
        elif isinstance(node, exp.Median):
            found = Quantile(site, sql, "cont", "0.5")
        else:
            place: Place = "cont" if isinstance(node, exp.PercentileCont) else "disc"
            at = given.this if isinstance(given, exp.Literal) and not given.is_string else ""
            if not _FRACTION.fullmatch(at) or Fraction(at) > 1:
                raise InputError(
                    f"{node.sql(dialect='duckdb')}: the second argument is one number from 0 to 1",
                    cure="Write it in decimal digits, as in quantile_cont(a.x, 0.25).",
                )
            found = Quantile(site, sql, place, at)
        if isinstance(node, (exp.Min, exp.Max)) and given is not None:
            raise InputError(f"{node.sql(dialect='duckdb')}: one plain argument is supported")
        if found not in self.quantiles:
            self.quantiles.append(found)
        return f"q{self.quantiles.index(found)}"


def _words(node: exp.Expr) -> str:
    return node.sql_name() if isinstance(node, exp.Func) else node.key.upper()
