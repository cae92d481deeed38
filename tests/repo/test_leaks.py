"""The leak check of tests/conftest.py notices what it is there for."""

import socket
import subprocess
import sys
import threading

import pytest

from tests.conftest import held


def test_a_socket_is_seen() -> None:
    before = held()
    with socket.socket():
        assert any("socket:" in one for one in held().beyond(before))
    assert held().beyond(before) == []


def test_a_thread_is_seen() -> None:
    before, go_on = held(), threading.Event()
    thread = threading.Thread(target=go_on.wait, name="waits for the test")
    thread.start()
    assert any("waits for the test" in one for one in held().beyond(before))
    go_on.set()
    thread.join()
    assert held().beyond(before) == []


@pytest.mark.processes
def test_a_process_is_seen() -> None:
    before = held()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert any(str(process.pid) in one for one in held().beyond(before))
    process.communicate(b"\n")
    assert held().beyond(before) == []
