"""What the tests of Pacemaker are given: one cluster, one Kafka and one nginx
for all of them, and clients that pay without a pause."""

import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'fault'), str(HERE.parent / 'lib')]

from cluster import Cluster                                     # noqa: E402
from rig import Rig                                             # noqa: E402
from servers import WORK                                        # noqa: E402


def pytest_collection_modifyitems(items):
    if 'PAYMENT_TEST_PACEMAKER' not in os.environ:
        pytest.exit("these tests need namespaces: run 'make test-pacemaker'",
                    2)

    for item in items:
        item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope='session')
def cluster():
    nodes = Cluster(WORK)
    nodes.start()
    yield nodes
    nodes.close()


@pytest.fixture(scope='session')
def rig(cluster):
    rig = Rig(cluster)
    yield rig
    rig.close()
