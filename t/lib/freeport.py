"""Free TCP ports, without a race against another run of the tests: a port is
bound, for as long as the process lives, by a socket that never listens. Nobody
else can bind it who asks here or in FreePort.pm, and the kernel gives it to no
outgoing connection. The server that it is meant for can, because it binds with
SO_REUSEADDR, as all servers do.
"""

import random
import socket

# below the range of outgoing connections, above what is well known
FIRST, LAST = 20000, 31999
TRIES = 1000

_held = []
_random = random.Random()           # a test's seed does not decide its ports


def free_port(count=1, host='0.0.0.0'):
    """The first of count ports in a row."""

    for _ in range(TRIES):
        first = _random.randrange(FIRST, LAST + 2 - count)
        sockets = []

        try:
            for port in range(first, first + count):
                sockets.append(_hold(host, port))
        except OSError:
            for s in sockets:
                s.close()
            continue

        _held.extend(sockets)
        return first

    raise AssertionError('no free port')


def _hold(host, port):
    """Bound without SO_REUSEADDR, so that whoever else has it is noticed."""

    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)

    try:
        s.bind((host, port))
    except OSError:
        s.close()
        raise

    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return s
