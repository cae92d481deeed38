import os
import stat
from pathlib import Path

import pytest

from atoll import whole_files


def test_a_file_takes_its_name_with_its_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "größe.bin"
    for data in (b"", b"first", b"second" * 10_000):
        whole_files.write(path, data, mode=0o640)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("end", [OSError("disk"), KeyboardInterrupt()])
def test_what_ends_badly_leaves_the_older_file(tmp_path: Path, end: BaseException) -> None:
    path = tmp_path / "kept"
    whole_files.write(path, b"older")

    def spoil() -> None:
        with whole_files.filling(path) as file:
            file.write(b"half")
            raise end

    with pytest.raises(type(end)):
        spoil()
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["kept"]


def test_a_file_may_be_made_by_name(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    with whole_files.making(path) as unfinished:
        unfinished.write_bytes(b"whole")
        assert unfinished.name.startswith(whole_files.TORN)
        assert not path.exists()
    assert path.read_bytes() == b"whole"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        whole_files.write(tmp_path / "none" / "kept", b"")
