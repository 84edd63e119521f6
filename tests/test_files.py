"""Files by paths of every kind, taken literally."""

import os

import numpy as np
import pytest
import tensorflow as tf

from evonorm_tf import files

# What a shell, a pattern or a URL would take for something else.
ODD = "a [0.1] *? ü#%20{x}"


@pytest.fixture(params=["local", "file", "ram"])
def root(request, tmp_path):
    """An odd folder on each kind of file system, not made yet."""
    if request.param == "ram":
        return f"ram://{tmp_path.name}/{ODD}"
    prefix = {"local": "", "file": "file://"}[request.param]
    return f"{prefix}{tmp_path}/{ODD}"


def test_a_file_is_written_read_replaced_and_removed(root):
    path = f"{root}/sub/x.json"
    assert not files.exists(path)
    files.write(path, "ä\n")
    assert files.read_text(path) == "ä\n"
    assert files.read(path) == "ä\n".encode()
    files.write(path, b"new\n")
    files.append(path, "more\n")
    assert files.read_text(path) == "new\nmore\n"
    assert files.size(path) == 9
    # Nothing is left of how it was written.
    assert files.names(f"{root}/sub") == ["x.json"]
    assert files.is_file(path) and not files.is_folder(path)
    files.remove(path)
    files.remove(path)
    assert files.names(f"{root}/sub") == []
    files.remove(root)
    assert not files.exists(root)


def test_what_is_not_there(root):
    assert files.names(root) == []
    assert list(files.walk(root)) == [(files.normalize(root), [], [])]
    for read in (files.read, files.read_text, files.size, files.open_binary):
        with pytest.raises(FileNotFoundError, match=r"\[0.1\]"):
            read(f"{root}/none")
    missing = pytest.raises(FileNotFoundError, match=r"\[0.1\]")
    with missing, files.local(f"{root}/none"):
        raise AssertionError("not reached")


def test_a_write_that_fails_leaves_the_old_file_alone(root):
    path = files.write(f"{root}/x.npz", "old")
    with pytest.raises(KeyError), files.writing(path) as place:
        assert place.endswith(".npz")
        with open(place, "w") as file:
            file.write("half")
        raise KeyError
    assert files.read_text(path) == "old"
    assert files.names(root) == ["x.npz"]


def test_others_write_and_read_by_a_local_path(root):
    path = f"{root}/x.npz"
    with files.writing(path) as place:
        np.savez(place, a=[1, 2])
    with files.local(path) as place, np.load(place) as found:
        assert found["a"].tolist() == [1, 2]


def test_a_folder_takes_the_place_of_another(root, tmp_path):
    for text in ("old", "new"):
        made = tmp_path / f"made-{text}"
        (made / "in").mkdir(parents=True)
        (made / "in" / text).write_text(text)
        files.install(made, f"{root}/export")
    assert [f[2] for f in files.walk(f"{root}/export")] == [[], ["new"]]
    assert files.names(root) == ["export"]
    assert (tmp_path / "made-new" / "in" / "new").exists()


def test_a_file_never_takes_the_place_of_a_folder(root, tmp_path):
    files.write(f"{root}/d/x", "x")
    (tmp_path / "source").write_text("a file")
    with pytest.raises(IsADirectoryError, match="cannot replace a folder"):
        files.write(f"{root}/d/", "text")
    for function in (files.install, files.move):
        with pytest.raises(IsADirectoryError, match="cannot replace a folder"):
            function(tmp_path / "source", f"{root}/d")
    # Nor does what was not written.
    for name in ("d", "d/x"):
        with pytest.raises(FileNotFoundError), files.writing(f"{root}/{name}"):
            pass
    assert (tmp_path / "source").read_text() == "a file"
    assert files.names(root) == ["d"] and files.names(f"{root}/d") == ["x"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_be_replaced_is_restored(
    tmp_path, monkeypatch, failing
):
    files.write(tmp_path / "new" / "x", "new")
    files.write(tmp_path / "d" / "x", "old")
    rename, calls = os.rename, []

    def broken(*paths):
        calls.append(paths)
        if len(calls) == failing:
            raise OSError("full")
        rename(*paths)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(OSError, match="full"):
        files.install(tmp_path / "new", tmp_path / "d")
    assert files.read_text(tmp_path / "d" / "x") == "old"
    assert files.names(tmp_path) == ["d", "new"]


def test_a_copy_that_fails_leaves_nothing(root, tmp_path, monkeypatch):
    (tmp_path / "new" / "a").mkdir(parents=True)
    (tmp_path / "new" / "b").symlink_to("nowhere")
    files.write(f"{root}/x", "old")
    with pytest.raises(OSError):
        files.install(tmp_path / "new", f"{tmp_path}/d")
    with pytest.raises(OSError):
        files.install(tmp_path / "new" / "b", f"{root}/x")
    assert not (tmp_path / "d").exists()
    assert not [n for n in files.names(tmp_path) if n.startswith(".")]
    assert files.names(root) == ["x"]


def test_copies_and_moves_onto_and_into_themselves(root):
    folder, path = f"{root}/d", f"{root}/d/x"
    files.write(path, "x")
    operations = (files.copy, files.install, files.move, files.move_if_absent)
    for operation in operations:
        for place in (folder, path, f"{folder}/"):
            operation(place, place)
        for place in (f"{folder}/e", f"{folder}/e/f"):
            with pytest.raises(OSError, match="into itself"):
                operation(folder, place)
        with pytest.raises(FileNotFoundError):
            operation(f"{root}/none", f"{root}/none")
    assert files.names(folder) == ["x"]
    assert files.read_text(path) == "x"


def test_a_folder_is_not_removed_with_the_one_it_replaces():
    for operation in (files.install, files.move):
        files.write("ram://outer/inner/x", "x")
        with pytest.raises(OSError, match="replace a folder that it is in"):
            operation("ram://outer/inner", "ram://outer")
        assert files.read_text("ram://outer/inner/x") == "x"
    files.remove("ram://outer")


def test_a_link_onto_its_file_is_left_alone(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("x")
    link.symlink_to(file)
    for operation in (files.copy, files.install, files.move):
        operation(link, file)
        assert file.read_text() == "x" and link.is_symlink()


def test_a_link_that_leads_nowhere_is_removed(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "none")
    files.remove(link)
    assert not os.path.lexists(link)


def test_files_right_below_a_scheme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = f"ram://{tmp_path.name}.txt"
    assert files.write(path, "old") == path
    files.write(path, "new")
    files.move(path, f"{path}.moved")
    assert files.read_text(f"{path}.moved") == "new"
    files.remove(f"{path}.moved")
    assert not os.listdir(tmp_path)  # No local folder named "ram:".


@pytest.mark.parametrize(
    "path, folder, name",
    [
        ("a", ".", "a"),
        ("a//b/", "a", "b"),
        ("/a", "/", "a"),
        ("gs://bucket/a/", "gs://bucket", "a"),
        ("gs://bucket", "gs://", "bucket"),
        ("gs://", "gs://", ""),
    ],
)
def test_folders_and_names(path, folder, name):
    assert (files.parent(path), files.name(path)) == (folder, name)


def test_links_are_followed(tmp_path):
    files.write(tmp_path / "real" / "d" / "x", "old")
    files.write(tmp_path / "real" / "file", "old")
    for name in ("d", "file"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    files.write(tmp_path / "new" / "y", "new")
    files.write(tmp_path / "file", "new")
    files.install(tmp_path / "new", tmp_path / "d")
    assert files.names(tmp_path / "real" / "d") == ["y"]
    assert files.read_text(tmp_path / "real" / "file") == "new"
    files.move(tmp_path / "new", tmp_path / "d")
    assert (tmp_path / "d").is_symlink() and (tmp_path / "file").is_symlink()
    files.remove(tmp_path / "d")
    assert files.names(tmp_path / "real" / "d") == ["y"]


def test_a_walk_sees_linked_folders_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path / "a" / "b")
    found = [os.path.relpath(f, tmp_path) for f, _, _ in files.walk(tmp_path)]
    assert found == [".", "a", "a/b", "other"]


def test_patterns_match_names_and_literal_names_win(root):
    for name in ("train-0", "train-1", ".train-2", "test-0", "train-*"):
        files.write(f"{root}/[v1]/{name}", "")
    files.write(f"{root}/v/train-0", "")

    def match(pattern):
        found = files.match(f"{root}/{pattern}")
        assert all(files.exists(path) for path in found)
        base = files.normalize(root)
        return [path.removeprefix(f"{base}/") for path in found]

    assert match("[v1]/train-?") == [f"[v1]/train-{end}" for end in "*01"]
    assert match("[v1]/train-*") == ["[v1]/train-*"]
    assert match("*/train-0") == ["[v1]/train-0", "v/train-0"]
    assert match("[uv]/train-[0-9]") == ["v/train-0"]
    assert match("[v1]/.train-*") == ["[v1]/.train-2"]
    assert match("none/*") == match("[v1]/none") == []


def test_patterns_match_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "x[1].txt").touch()
    (tmp_path / "x1.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert files.match("x[1].txt") == ["x[1].txt"]
    assert files.match("x*.txt") == ["x1.txt", "x[1].txt"]
    assert files.match("./x1.*") == ["./x1.txt"]


def test_tensorflow_reads_by_a_path_without_wildcards(root):
    saved = tf.train.Checkpoint(a=tf.Variable(3.0))
    files.make_folder(root)
    path = saved.write(f"{root}/ckpt[1]-7")
    read = tf.train.Checkpoint(a=tf.Variable(0.0))
    plain = files.without_wildcards(path)
    read.read(plain).assert_consumed()
    assert float(read.a) == 3.0

    module = tf.Module()
    module.f = tf.function(lambda x: x + 1, [tf.TensorSpec([])])
    module.v = tf.Variable(2.0)
    tf.saved_model.save(module, f"{root}/model")
    loaded = tf.saved_model.load(files.without_wildcards(f"{root}/model"))
    assert float(loaded.f(1.0)) == float(loaded.v) == 2.0


@pytest.mark.parametrize(
    "path, wanted",
    [
        ("file:///a/b c", "/a/b c"),
        ("file://host/a", "/a"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("a.b=gs://bucket/a", "a.b=gs://bucket/a"),
        ("~/a", os.path.expanduser("~/a")),
        ("a/~", "a/~"),
    ],
)
def test_paths_are_normalized(path, wanted):
    assert files.normalize(path) == wanted


def test_local_paths_are_told_from_urls():
    assert files.is_local("a.b=gs://c") and files.is_local("file:///a")
    assert not files.is_local("gs://c")


def test_file_systems_that_are_not_there_are_named():
    with pytest.raises(OSError, match="nowhere://a"):
        files.exists("nowhere://a")


def test_a_folder_that_another_process_put_there_stays(root):
    for content in ("first", "second"):
        source = f"{root}/{content}"
        files.write(f"{source}/x", content)
        files.move_if_absent(source, f"{root}/made")
        assert not files.exists(source)
    assert files.read_text(f"{root}/made/x") == "first"


def test_a_folder_whose_name_begins_others(root):
    files.write(f"{root}/train/x", "x")
    files.write(f"{root}/train.json", "{}")
    assert files.names(f"{root}/train") == ["x"]
    assert files.names(root) == ["train", "train.json"]


def test_a_folder_that_cannot_be_moved_is_kept(root, monkeypatch):
    """Even if a part of it arrived, as on an object store."""
    files.write(f"{root}/source/x", "x")

    def full(source, target):
        if not files.is_local(target):
            files.make_folder(target)
        raise OSError("full")

    monkeypatch.setattr(files, "copy", full)
    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="full"):
        files.move_if_absent(f"{root}/source", f"{root}/made")
    assert files.read_text(f"{root}/source/x") == "x"
