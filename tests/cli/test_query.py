"""`atoll serve lookup` and `atoll query` as people run them: two processes over mutual TLS, and their exit codes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cli import main
from atoll.cli.stage import free_ports
from atoll.node.home import Home
from atoll.transport.site import init_site


def atoll(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "atoll.cli", *words]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(atoll(folder, *words), cwd=folder, capture_output=True, text=True, timeout=50)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    registry = init_site(tmp_path / "registry", "registry", f"127.0.0.1:{free_ports(1)[0]}")
    bank = init_site(tmp_path / "bank", "bank", "")
    registry.trust(bank.card)
    bank.trust(registry.card)
    lines = [f"C{at:04d},{at / 4},{at},2024-01-{1 + at % 28:02d}" for at in range(300)]
    (tmp_path / "companies.csv").write_text("company_id,risk,size,since\n" + "\n".join(lines), "utf-8")
    (tmp_path / "keys.csv").write_text("company_id,mine\nC0007,a\nX1,b\nC0299,c\nC0007,d\n", "utf-8")
    (tmp_path / "bad.csv").write_text('company_id\nC0007\n""\n \n', "utf-8")
    Home(tmp_path / "registry").catalogue.add("companies", tmp_path / "companies.csv", ["company_id"])
    for name in ("registry", "bank"):
        home = Home(tmp_path / name)
        home.decide(home.policy().allowing("decoy-lookup"))
    return tmp_path


@pytest.mark.processes
@pytest.mark.timeout(150)
def test_a_service_and_a_client_as_two_processes(folder: Path) -> None:
    words = ("serve", "lookup", "firms", "--data", "companies", "--columns", "risk,since", "--limit", "6/day")
    log = (folder / "log").open("w")
    server = subprocess.Popen(
        atoll(folder, *words, "--home", "registry", "--allow-decoys", "3"), cwd=folder, stdout=log, stderr=log
    )
    try:
        asked = ("query", "keys.csv", "--from", "firms@registry", "--home", "bank")
        done = run(folder, *asked, "--out", "hits.csv", "--misses", "misses.csv", "--wait", "40")
        assert done.returncode == 0, done.stderr + (folder / "log").read_text()
        assert "3 of 4 keys found (3 different), 300 records, version 1, 3 queries left" in done.stderr
        assert (folder / "hits.csv").read_text().splitlines() == [
            "company_id,risk,since", "C0007,1.75,2024-01-08", "C0299,74.75,2024-01-20", "C0007,1.75,2024-01-08",
        ]  # fmt: skip
        assert (folder / "misses.csv").read_text().splitlines() == ["company_id", "X1"]
        weak = run(folder, *asked, "--out", "weak.parquet", "--decoys", "3", "--pool", "companies.csv")
        assert weak.returncode == 0, weak.stderr
        assert "each hidden among k = 3 only (weak)" in weak.stderr
        spent = run(folder, *asked, "--out", "hits.csv")
        assert (spent.returncode, "allows 0 more queries now" in spent.stderr) == (3, True)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=20)
        log.close()
    assert code == 0, (folder / "log").read_text()
    assert "stopped" in (folder / "log").read_text()


def test_what_is_wrong_is_said_before_anything_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["atoll", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return int(str(end.value.code)), capsys.readouterr().err

    monkeypatch.chdir(folder)
    for words, code, text in (
        (("--from", "firms@nobody", "--out", "x.csv"), 6, "no card of 'nobody'"),
        (("--from", "firms", "--out", "x.csv"), 2, "names no service"),
        (("--from", "firms@registry", "--out", "x.txt"), 2, "neither .csv nor .parquet"),
        (("--from", "firms@registry", "--out", "x.csv", "--key", "id"), 2, "no id column 'id'"),
    ):
        got, told = ends("query", "keys.csv", *words, "--home", "bank")
        assert (got, text in told) == (code, True), told
    got, told = ends(
        "query", "keys.csv", "--from", "firms@registry", "--out", "x.csv", "--home", "bank", "--wait", "0.2"
    )
    assert (got, "did not answer within" in told) == (7, True), told
    serve = ("serve", "lookup", "firms", "--home", "registry")
    for words, code, text in (
        (serve, 2, "nothing has been served"),
        ((*serve, "--data", "companies", "--limit", "many"), 2, "is no limit"),
        ((*serve, "--data", "companies", "--partner", "nobody"), 6, "no card of 'nobody'"),
        ((*serve, "--data", "companies", "--columns", "nothing"), 2, "no column 'nothing'"),
    ):
        got, told = ends(*words)
        assert (got, text in told) == (code, True), told
    main_ends = ends(*serve, "--data", "companies", "--prepare")
    assert (main_ends[0], "built: 300 records" in main_ends[1]) == (0, True), main_ends


@pytest.mark.processes
@pytest.mark.timeout(150)
def test_from_python(folder: Path) -> None:
    """The same in one process with the service in another; the port is the card's."""
    server = subprocess.Popen(
        atoll(folder, "serve", "lookup", "firms", "--data", "companies", "--home", "registry", "--json"),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        program = (
            "import atoll; found = atoll.lookup(['C0001', 'none'], 'firms@registry', home='bank', wait=40);"
            "print(found.hits, found.misses, found.rows()[0]['key'])"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        assert "{'C0001': [{'risk': 0.25, 'size': 1, 'since': '2024-01-02'}]} ['none'] C0001" in done.stdout
    finally:
        server.send_signal(signal.SIGINT)
        said = server.communicate(timeout=20)[0]
    assert server.returncode == 0, said
    assert '"event": "finished"' in said
