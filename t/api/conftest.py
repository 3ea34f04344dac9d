"""Fixtures of t/api: one database and one nginx for each file that asks."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'lib'))

from .service import Database                                   # noqa: E402


def pytest_collection_modifyitems(items):
    """No test here may hang: the longest form has an hour."""

    seconds = 3600 if os.environ.get('PAYMENT_TEST_LONG') else 300

    for item in items:
        if item.get_closest_marker('timeout') is None:
            item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture(scope='module')
def database(request):
    made = Database(request.module.__name__.rpartition('_')[2])
    yield made
    made.drop()
