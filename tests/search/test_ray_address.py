"""Addresses of Ray clusters that are none: each is one line, and at once."""

import socket
import threading

import pytest

from evonorm_tf.search import __main__ as command
from evonorm_tf.search import ray_pool


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "HOST:PORT"),
        ("127.0.0.1:1", "No Ray cluster answers there"),
        ("ray://127.0.0.1:1", "No Ray cluster answers there"),
        ("127.0.0.1:99999", "No Ray cluster answers there"),
    ],
)
def test_an_unreachable_address_is_named(address, message):
    with pytest.raises(ValueError, match=message) as error:
        ray_pool._knock(address)
    assert f"ray={address!r}" in str(error.value)


@pytest.fixture
def listener():
    """Something that listens on a port, and says what it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def open_(answer):
            def serve():
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
            return f"127.0.0.1:{server.getsockname()[1]}"

        yield open_


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_answers_and_is_not_ray_is_named(scheme, listener):
    # Ray itself would try for minutes; a dashboard's port is easily given.
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
        address = scheme + listener(answer)
        with pytest.raises(ValueError, match=r"not Ray.*8265") as error:
            ray_pool._knock(address)
        assert f"ray={address!r}" in str(error.value)


def test_what_says_nothing_is_named(monkeypatch):
    monkeypatch.setattr(ray_pool, "_PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"answers there \(timed out"):
            ray_pool._knock(address)


def test_what_speaks_as_ray_does_is_let_through(listener):
    ray_pool._knock(listener(b"\0\0\0\4\0\0\0\0\0"))


def test_an_unreachable_address_makes_no_folder(tmp_path, capsys):
    pytest.importorskip("ray")
    folder = tmp_path / "run"
    given = ["--debug", "--ray=127.0.0.1:1", f"--output={folder}"]
    assert command.main(given) == 2
    assert "No Ray cluster answers there" in capsys.readouterr().err
    assert not folder.exists()


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(ray_pool.importlib, "import_module", absent)
    with pytest.raises(ValueError, match=r"evonorm-tf\[search\]"):
        ray_pool.connect("auto")


def test_no_cluster_on_this_machine_is_one_line(monkeypatch, tmp_path, capsys):
    class Ray:
        @staticmethod
        def is_initialized():
            return False

        @staticmethod
        def init(**_):
            raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray_pool.importlib, "import_module", lambda _: Ray)
    given = ["--debug", "--ray=auto", f"--output={tmp_path}"]
    assert command.main(given) == 2
    assert "no Ray cluster to connect to" in capsys.readouterr().err
