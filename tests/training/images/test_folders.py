"""What of a folder is read, and that the rest is counted."""

import os
import pathlib

import pytest

from training.images import folders


def _touch(*paths):
    for path in map(pathlib.Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_hidden_folders_are_no_classes_and_labels_do_not_shift(tmp_path):
    for name in ("cat", "dog"):
        _touch(tmp_path / name / "1.png", tmp_path / name / "._1.png")
    _touch(tmp_path / ".ipynb_checkpoints" / "1.png", tmp_path / ".DS_Store")
    _touch(tmp_path / "__MACOSX" / "cat" / "1.png", tmp_path / "labels.txt")
    found = folders.classes(str(tmp_path))
    assert found.names == ("cat", "dog")
    assert found.paths == [f"{tmp_path}/{name}/1.png" for name in found.names]
    assert found.labels == [0, 1]
    assert found.left_out == {
        "hidden files or folders": 5,
        "files with suffix .txt": 1,
    }
    assert any("5 hidden" in line for line in folders.describe(found.left_out))


@pytest.mark.parametrize("suffix", folders.SUFFIXES)
def test_every_format_counts_as_an_image(suffix, tmp_path):
    _touch(tmp_path / "a" / f"1{suffix}", tmp_path / "a" / f"2{suffix.upper()}")
    assert len(folders.classes(str(tmp_path)).paths) == 2
    paths, left_out = folders.find(str(tmp_path))
    assert len(paths) == 2 and not left_out


def test_what_is_left_out_of_classes_is_counted(tmp_path):
    _touch(
        *(tmp_path / "a" / name for name in ("1.png", "1.svg", "2.svg", "x")),
        tmp_path / "a" / "more" / "2.png",
        tmp_path / "0.png",
    )
    found = folders.classes(f"file://{tmp_path}")
    assert found.paths == [f"{tmp_path}/a/1.png"]
    assert found.left_out == {
        "files beside the folders of the classes": 1,
        "files with suffix .svg": 2,
        "files without a suffix": 1,
        "folders within that of a class": 1,
    }
    first = found.left_out.first["files with suffix .svg"]
    assert first == f"{tmp_path}/a/1.svg"


def test_linked_folders_are_read_and_circles_are_not(tmp_path):
    _touch(tmp_path / "set" / "a" / "1.png", tmp_path / "far" / "2.png")
    os.symlink(tmp_path / "far", tmp_path / "set" / "b")
    assert folders.classes(str(tmp_path / "set")).names == ("a", "b")
    os.symlink(tmp_path / "set", tmp_path / "far" / "up")
    paths, left_out = folders.find(str(tmp_path / "set"))
    assert [p.removeprefix(f"{tmp_path}/set/") for p in paths] == [
        "a/1.png",
        "b/2.png",
    ]
    assert left_out == {"links to a folder above": 1}


def test_brackets_and_stars_are_not_patterns(tmp_path):
    _touch(tmp_path / "[v1] *?" / "ü [1]" / "a[b].png")
    found = folders.classes(f"{tmp_path}/[v1] *?")
    assert found.paths == [f"{tmp_path}/[v1] *?/ü [1]/a[b].png"]


def test_names_that_are_not_utf8_are_refused(tmp_path):
    _touch(tmp_path / "a" / "1.png", tmp_path / "b" / os.fsdecode(b"\xfc.png"))
    for find in (folders.classes, folders.find):
        with pytest.raises(ValueError, match=r"must be UTF-8.*xfc|dcfc"):
            find(str(tmp_path))


def test_a_folder_that_is_no_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        folders.classes(str(tmp_path / "none"))
    _touch(tmp_path / ".git" / "x.png", tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"1 hidden .*\.git"):
        folders.classes(str(tmp_path))
    _touch(tmp_path / "a" / "1.png", tmp_path / "b" / "1.svg")
    with pytest.raises(ValueError, match=r"/b'; left out: 1 files with .*svg"):
        folders.classes(str(tmp_path))
    # The folder above the splits.
    with pytest.raises(ValueError, match=r"If it is a split.*\{split\}.*/set'"):
        _touch(tmp_path / "sets" / "set" / "a" / "1.png")
        folders.classes(str(tmp_path / "sets"))
