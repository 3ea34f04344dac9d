"""nginx with no more than conf/systemd/hardening.conf leaves it: a file system
that it cannot write to but for its own directories, a /proc without the
processes of other users, the capabilities that are listed, and no way to get
others; and the system calls, families of addresses and kinds of memory.

It is done here by a mount namespace, setpriv and libseccomp. What else the file
asks for only systemd could do.
"""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from client import Client
from outbox import (committed, helper, helpers, judge,    # noqa: F401
                    kafka, start_outbox, topic, wait_empty, wait_leased)
from servers import ROOT, wait_for
from test_spans import METRICS, metrics

HARDENING = ROOT / 'conf' / 'systemd' / 'hardening.conf'
SANDBOXED = ROOT / 't' / 'fault' / 'sandboxed.py'

PROC = 'mount -t proc -o hidepid=invisible,subset=pid proc /proc'

# $1 stays writable, the rest does not; then the command
SANDBOX = f'''
set -e
mount --bind "$1" "$1"
findmnt --raw --noheadings --output TARGET | while read -r target; do
    case $target in
        "$1" | /dev | /dev/* | /proc | /proc/*) ;;
        *) mount -o remount,bind,ro "$target" ;;
    esac
done
{PROC}
shift
exec "$@"
'''


def setting(name):
    return re.findall(rf'^{name}=(.*)$', HARDENING.read_text(), re.M)


@pytest.fixture
def within(work):
    """within(directory): what to put before a command."""

    if os.geteuid():
        pytest.skip('root alone makes such a sandbox')

    # a container may be root's and let it mount nothing
    if subprocess.run(['unshare', '--mount', 'sh', '-c', PROC],
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip('there may be no other /proc here')

    capabilities = ','.join('+' + name.lower().removeprefix('cap_') for name
                            in setting('CapabilityBoundingSet')[0].split())
    assert setting('NoNewPrivileges') == ['yes']
    assert setting('ProtectSystem') == ['strict']
    assert setting('ProtectProc') == ['invisible']
    assert setting('ProcSubset') == ['pid']

    # systemd-analyze is no part of what the tests install
    calls = ['/usr/bin/python3', SANDBOXED, HARDENING] \
        if shutil.which('systemd-analyze') else []

    return lambda directory: [
        'unshare', '--mount', '--propagation', 'private', 'sh', '-c', SANDBOX,
        'sandbox', str(directory), 'setpriv', '--no-new-privs',
        f'--bounding-set=-all,{capabilities}', *map(str, calls)]


def test_the_sandbox_is_one(within, tmp_path):
    for place, status in (tmp_path, 0), (ROOT / 'build', 1), ('/var/tmp', 1):
        file = f'{place}/sandbox-{os.getpid()}'
        done = subprocess.run([*within(tmp_path), 'touch', file],
                              capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert os.path.exists(file) == (status == 0)

    assert subprocess.run([*within(tmp_path), 'unshare', '--mount', 'true'],
                          stderr=subprocess.DEVNULL).returncode

    # not of the group root, either, which is let see everything
    seen = subprocess.run([*within(tmp_path), 'setpriv', '--reuid=nobody',
                           '--regid=nogroup', '--clear-groups', 'ls', '/proc'],
                          check=True, capture_output=True,
                          text=True).stdout.split()
    assert 'self' in seen and '1' not in seen and 'meminfo' not in seen


TRIES = {
    'nothing': ('pass', True),
    'a system call': ('if ctypes.CDLL(None).ptrace(0, 0, 0, 0):'
                      ' raise PermissionError(1, "ptrace")', False),
    'a socket': ('socket.socket(socket.AF_INET)', True),
    'another one': ('socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)', False),
    'memory': ('mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE)', True),
    'a program in memory': (
        'mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)', False)
}


@pytest.mark.skipif(not shutil.which('systemd-analyze'),
                    reason='no systemd-analyze')
@pytest.mark.parametrize('what', TRIES)
def test_the_calls_are_fewer(within, tmp_path, what):
    tried, done = TRIES[what]
    run = subprocess.run([*within(tmp_path), '/usr/bin/python3', '-c',
                          f'import ctypes, mmap, socket\n{tried}'],
                         capture_output=True, text=True)
    assert (run.returncode == 0) == done, run.stderr
    assert done or 'PermissionError: [Errno 1]' in run.stderr, run.stderr


def test_when_it_was_started(start_outbox, within):
    """The workers cannot see the master there, and tell of it all the same."""

    def started():
        return float(re.search(r'^process_start_time_seconds ([0-9.]+)$',
                               metrics(nginx), re.M)[1])

    before = time.time()
    nginx = start_outbox(nginx=dict(within=within, user='nobody nogroup',
                                    **METRICS))
    first, up = started(), nginx.status()['nginx']['uptime_ms']
    assert before - 1 <= first <= time.time()
    assert 0 < up <= (time.time() - before + 1) * 1000

    nginx.reload()
    nginx.wait_connected()
    wait_for(lambda: nginx.status()['nginx']['uptime_ms'] > up + 1000, 10,
             'a second')
    assert started() == first

    kinds = set(re.findall(r'^process_cpu_seconds_total\{process="(\w+)"',
                           metrics(nginx), re.M))
    assert kinds == {'worker', 'outbox'}


@pytest.mark.timeout(300)
def test_all_that_nginx_does(start_outbox, within, mariadb, database, kafka,
                             topic, journal):
    """As root's master with workers of nobody: payments, events, a reload, new
    logs, a worker and a helper that die, and an orderly end."""

    nginx = start_outbox(nginx=dict(within=within, user='nobody nogroup'))
    ask = Client(nginx.port, journal)
    paid = ask.authorize()
    assert paid.ok and ask.change('capture', paid.id, amount=paid.amount).ok

    nginx.reload()
    nginx.wait_connected()
    assert ask.authorize(key=paid.key).replayed

    nginx.log.rename(nginx.dir / 'old.log')
    nginx.signal(signal.SIGUSR1)
    wait_for(lambda: nginx.log.exists(), 5, 'a new log')

    nginx.expect('exited on signal 9')
    nginx.kill_worker()
    wait_for(lambda: len(nginx.worker_pids()) == nginx.workers, 10,
             'another worker')

    # not the one that the reload sent away
    wait_for(lambda: len(helpers(nginx)) == 1, 20, 'one helper')
    wait_leased(nginx, 20)
    first = helper(nginx)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: helper(nginx) != first, 10, 'another helper')
    wait_leased(nginx)
    assert ask.authorize().ok

    wait_empty(mariadb, database)
    expected = committed(mariadb, database)

    # a helper that is killed may leave events that come again
    judge(kafka.messages(topic), expected, len(expected), 8)

    for pid in nginx.worker_pids() + [helper(nginx)]:
        status = open(f'/proc/{pid}/status').read()
        assert re.search(r'^NoNewPrivs:\s*1$', status, re.M)
        assert re.search(r'^CapEff:\s*0+$', status, re.M)


@pytest.mark.skipif(not shutil.which('systemd-analyze')
                    or not os.path.exists('/lib/systemd/system/nginx.service'),
                    reason='no systemd-analyze, or no nginx.service')
def test_what_systemd_says_of_it(tmp_path):
    unit = tmp_path / 'nginx.service'
    shutil.copy('/lib/systemd/system/nginx.service', unit)
    (tmp_path / 'nginx.service.d').mkdir()
    shutil.copy(HARDENING, tmp_path / 'nginx.service.d')

    def analyze(*arguments):
        return subprocess.run(
            ['systemd-analyze', *arguments], text=True, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=dict(os.environ, SYSTEMD_UNIT_PATH=f'{tmp_path}:'))

    said = analyze('security', '--offline=true', 'nginx.service').stdout
    exposure = re.search(r'exposure level for nginx\.service: ([\d.]+)', said)
    assert exposure and float(exposure[1]) <= 3.0, said

    verified = analyze('verify', str(unit))
    assert not [line for line in verified.stdout.splitlines()
                if 'hardening.conf' in line], verified.stdout
