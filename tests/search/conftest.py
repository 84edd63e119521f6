"""What tests of searches share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without their figures, which take most of the time."""
    from evonorm_tf.search import charts

    monkeypatch.setattr(charts, "inline", lambda figure: "data:,")
