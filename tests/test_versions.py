"""The matrix of versions: its corners, its page, and who reads it."""

import importlib.metadata

from evonorm_tf import versions
from tests.versions import matrix


def _minor(version: str) -> tuple[int, ...]:
    return versions.release(version)[:2]


def test_the_corners_reach_both_ends_of_every_range():
    ranges = {"python": versions.PYTHON, **versions.TESTED}
    for name, tested in ranges.items():
        found = [getattr(corner, name) for corner in matrix.CORNERS]
        found = [version for version in found if version]
        assert all(version in tested for version in found), name
        major, last = versions.release(tested.end)
        assert min(map(_minor, found)) == versions.release(tested.first), name
        assert max(map(_minor, found)) == (major, last - 1), name
    for corner in matrix.CORNERS:
        assert _minor(corner.tensorflow) == _minor(corner.tf_keras)
        assert corner.tensorflow or any("jax" in o for o in corner.others)


def test_the_page_shows_the_results():
    page = matrix.PAGE.read_text()
    assert page == matrix.page(matrix.read()), "run make test-versions"


def test_a_failure_is_one():
    well = {"layers": "9 passed", "smoke": {"keras": "passed"}}
    assert matrix.passed(well)
    failed = {"keras": "passed", "tf_keras": "FAILED: import"}
    assert not matrix.passed(well | {"smoke": failed})
    assert not matrix.passed(well | {"layers": "FAILED: 1 failed, 8 passed"})
    assert matrix.passed(well | {"layers": "not run"})
    none = {"layers": "not run: no python3.10", "smoke": {}}
    assert not matrix.passed(none)


def test_this_environment_is_within_the_ranges():
    for name, tested in versions.TESTED.items():
        assert importlib.metadata.version(name) in tested
