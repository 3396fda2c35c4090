"""A data directory that cannot be used is refused with what to do."""

import os
from pathlib import Path

import pytest
from blockyard.proto.disk.directory_lock import DirectoryLock
from blockyard.proto.disk.failures import DirectoryRefused


def test_a_file_in_place_of_the_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryRefused, match="file is not a directory"):
        DirectoryLock(tmp_path / "file", "Make one.")


def test_a_directory_of_another_user_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DirectoryRefused, match=f"cannot be used by user {os.geteuid()}: permission denied"):
        DirectoryLock(tmp_path, "Make one.")
