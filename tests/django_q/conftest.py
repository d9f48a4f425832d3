"""What the tests of the facade for django-q share."""

import pytest

from tests.django_q import functions


@pytest.fixture(autouse=True)
def ended():
    """What hooks were given."""
    functions.ENDED.clear()
    return functions.ENDED
