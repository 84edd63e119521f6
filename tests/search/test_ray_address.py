"""Addresses where no Ray cluster is: each is one line, and soon."""

import http.server
import threading
from concurrent import futures

import grpc
import pytest

from evonorm_tf.search import __main__ as command
from evonorm_tf.search import ray_pool


@pytest.fixture
def web():
    """The port of something that is not Ray, such as its dashboard."""
    with http.server.HTTPServer(
        ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_is_not_ray_is_named(scheme, web, monkeypatch):
    monkeypatch.setattr(ray_pool, "_PATIENCE", 0.3)
    for port in (1, web):
        address = f"{scheme}127.0.0.1:{port}"
        with pytest.raises(ValueError, match=r"No Ray cluster.*8265") as error:
            ray_pool._check_reachable(address)
        assert f"ray={address!r}" in str(error.value)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_server_of_rays_kind_is_let_through(scheme):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ray_pool._check_reachable(f"{scheme}127.0.0.1:{port}")
    server.stop(None)


def test_an_unreachable_address_makes_no_folder(tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_pool, "_PATIENCE", 0.3)
    folder = tmp_path / "run"
    given = ["--debug", "--ray=127.0.0.1:1", f"--output={folder}"]
    assert command.main(given) == 2
    assert "No Ray cluster responds there" in capsys.readouterr().err
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
