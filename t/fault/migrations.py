"""ngx-payment-migrate with migrations of a test's own."""

import shutil
import subprocess

from servers import ROOT


class Checkout:
    """What ngx-payment-migrate needs: itself, and sql/ beside it."""

    def __init__(self, path):
        self.path = path
        (path / 'tools').mkdir(parents=True)
        shutil.copy(ROOT / 'tools' / 'migrate.sh', path / 'tools')
        shutil.copytree(ROOT / 'sql', path / 'sql')

    @property
    def files(self):
        return sorted((self.path / 'sql').glob('V*.sql'))

    @property
    def newest(self):
        return len(self.files)

    def keep(self, n):
        """The first n, and no more."""

        for file in self.files[n:]:
            file.unlink()

        return self

    def add(self, kind, text):
        """The next migration; the name of its file."""

        number = self.newest + 1
        file = self.path / 'sql' / f'V{number:03}__test.sql'
        file.write_text(f'-- {kind}: test\n\n{text}\n')
        return file.name

    def command(self, server, verb, database, *options):
        return [self.path / 'tools' / 'migrate.sh', *verb.split(), database,
                *server.login(), *options]

    def start(self, *arguments):
        return subprocess.Popen(self.command(*arguments), text=True,
                                stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def run(self, *arguments, status=0):
        """What it said."""

        done = subprocess.run(self.command(*arguments), text=True, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert done.returncode == status, done.stdout
        return done.stdout
