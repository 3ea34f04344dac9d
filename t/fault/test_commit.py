"""COMMIT and what can come between it and its answer.

Whatever happens to the connection, a client is told the truth: 200 only for
what is there, 503 only for what is not, and what could not be found out in
time is said to be so.
"""

import pytest

from client import Load
from proxy import is_bulk, is_commit, is_query, is_rollback


def resolved(nginx):
    return nginx.status()['shards'][0]['resolved']


@pytest.mark.parametrize('action', ['after', 'at-once'])
def test_committed_but_not_heard(nginx, proxy, ask, check, action):
    strike = proxy.strike(is_commit, action)

    call = ask.authorize()

    assert strike.hits == 1
    assert call.ok and not call.replayed, call
    assert call.seconds < 2
    assert resolved(nginx) == 1
    assert len(check().payments) == 1


@pytest.mark.parametrize('action', ['before', 'half'])
def test_never_committed(nginx, proxy, ask, check, action):
    strike = proxy.strike(is_commit, action)

    call = ask.authorize()

    assert strike.hits == 1
    assert call.ok and not call.replayed, call
    assert call.seconds < 2
    assert resolved(nginx) == 1
    assert len(check().payments) == 1
