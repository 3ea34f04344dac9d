"""What a node has told that is nobody's business: its password, the keys of its
clients, pieces of bodies. For t/api and t/fault; PaymentTest::Told is the same
for t/*.t.

Every nginx of every test is searched at its end: its logs, what it wrote to a
terminal, its status pages. With PAYMENT_TEST_SECRETS, which make test-secrets
sets, they are at the level debug, nginx -T is searched, too, and what was
searched is removed.
"""

import http.client
import mmap
import os
import pathlib
import re
import subprocess

ALL = bool(os.environ.get('PAYMENT_TEST_SECRETS'))

# the member that nearly every body has, and the one that names a key
MARKS = '"merchantId"', 'idempotencyKey'

# an entry of nginx's log begins with its time, and may have several lines
ENTRY = re.compile(rb'\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[')

# nginx's own about what it reads, before it knows the location or at debug: the
# module has no entries of that level
HEARD = re.compile(rb'\S+ \S+ (\[debug\] \S+ (\*\d+ )?'
                   rb'(http[23]? |using location: )'
                   rb'|\[info\] .* while reading client request )')


def level(usual):
    """Of the error_log."""
    return os.environ.get('PAYMENT_TEST_LEVEL') or ('debug' if ALL else usual)


def lines(path, pattern):
    """Lines of a log, which may be large, in which the pattern is found."""

    with open(path, 'rb') as file:
        if not os.fstat(file.fileno()).st_size:
            return []

        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            places = {text.rfind(b'\n', 0, found.start()) + 1
                      for found in re.finditer(pattern, text)}
            return [_line(text, start) for start in sorted(places)]


def in_file(path, marks):
    """The entries of a log in which there is a mark, each as its line."""

    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size

        if not size:
            return []

        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = {start: place for mark in marks
                     for start, place in _entries(text, mark.encode())}
            told = [_line(text, place) for start, place in sorted(found.items())
                    if not HEARD.match(text, start)]

    if ALL:
        _count(path, size)

    return told


def in_text(text, marks):
    return [line for line in text.splitlines()
            if any(mark in line for mark in marks)]


def in_pages(port, paths, marks):
    """Status pages, as far as nginx still answers. A dead letter is shown with
    its merchant."""

    told = []
    marks = [mark for mark in marks if mark != '"merchantId"']

    for path in paths:
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=2)

        try:
            connection.request('GET', path)
            page = connection.getresponse().read().decode()
            told += in_text(page, marks)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    return told


def in_dump(nginx, prefix, conf, log, marks):
    """nginx -T, where everything is looked at."""

    if not ALL:
        return []

    dump = subprocess.run([nginx, '-T', '-p', str(prefix), '-c', str(conf),
                           '-e', str(log)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60).stdout
    _count('nginx -T', len(dump))
    return in_text(dump.decode(errors='replace'), marks)


def _entries(text, mark):
    """Where an entry begins in which the mark is, and the line with it."""

    place = text.find(mark)

    while place >= 0:
        start = line = text.rfind(b'\n', 0, place) + 1

        while start and not ENTRY.match(text, start):
            start = text.rfind(b'\n', 0, start - 1) + 1

        yield start, line
        place = text.find(mark, place + 1)


def _line(text, start):
    end = text.find(b'\n', start)
    return text[start:end if end >= 0 else len(text)].decode(errors='replace')


def _count(what, size):
    """For tools/test.sh, which tells how much was searched."""

    root = pathlib.Path(__file__).resolve().parents[2]
    directory = os.environ.get('PAYMENT_TEST_DIR', root / 'build' / 'test')

    with open(pathlib.Path(directory) / 'searched', 'a') as file:
        file.write(f'{size} {what}\n')
