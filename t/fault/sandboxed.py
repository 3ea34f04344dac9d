"""Runs a command with the system calls that a unit of systemd's leaves it.

    sandboxed.py UNIT COMMAND [ARGUMENT ..]

Of UNIT it is SystemCallFilter with one set, SystemCallErrorNumber,
RestrictAddressFamilies and MemoryDenyWriteExecute. `systemd-analyze` says what
the set has. Whatever is refused has one number here; a family of addresses has
another one with systemd. It is run by the system's Python, for which Debian has
libseccomp.
"""

import errno
import mmap
import os
import re
import socket
import subprocess
import sys

import seccomp
from seccomp import ALLOW, EQ, ERRNO, MASKED_EQ, Arg

WRITE, EXEC = mmap.PROT_WRITE, mmap.PROT_EXEC


def members(name):
    """The system calls of a set, and of the sets in it."""

    said = subprocess.run(['systemd-analyze', 'syscall-filter', name],
                          check=True, capture_output=True, text=True).stdout
    words = re.findall(r'^    (@?[\w-]+)$', said, re.M)
    assert words, said

    return {call for word in words
            for call in (members(word) if word[0] == '@' else [word])}


def main():
    with open(sys.argv[1]) as unit:
        settings = dict(re.findall(r'^(\w+)=(.*)$', unit.read(), re.M))

    number = getattr(errno, settings['SystemCallErrorNumber'])
    rules = seccomp.SyscallFilter(defaction=ERRNO(number))

    # by their arguments, below; another way to what the last of them does
    # systemd refuses, too
    looked_at = {'socket', 'mmap', 'mprotect', 'pkey_mprotect', 'shmat'}

    for call in sorted(members(settings['SystemCallFilter']) - looked_at):
        try:
            rules.add_rule(ALLOW, call)
        except RuntimeError:
            pass                        # not of this processor

    for family in settings['RestrictAddressFamilies'].split():
        rules.add_rule(ALLOW, 'socket', Arg(0, EQ, getattr(socket, family)))

    assert settings['MemoryDenyWriteExecute'] == 'yes'

    for protection in 0, WRITE, EXEC:
        rules.add_rule(ALLOW, 'mmap',
                       Arg(2, MASKED_EQ, WRITE | EXEC, protection))

    for call in 'mprotect', 'pkey_mprotect':
        rules.add_rule(ALLOW, call, Arg(2, MASKED_EQ, EXEC, 0))

    # SHM_EXEC
    rules.add_rule(ALLOW, 'shmat', Arg(2, MASKED_EQ, 0o100000, 0))

    rules.load()
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == '__main__':
    main()
