"""Fixtures of t/browser: payments under way, and a browser that looks on."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent

sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'lib')]


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.timeout(180))
