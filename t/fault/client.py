"""Clients that write down every request and every answer.

A Journal is the client's side of the truth: what was asked, when, and what was
answered, or how the connection ended. invariants.py compares it with the
database. Bodies are kept as bytes, for replays must be equal to the byte.
"""

import asyncio
import json
import random
import time

import loop
from servers import KEY_MARK

# seconds: far beyond every limit that nginx is given
PATIENCE = 20


class Call:
    """One request on the wire, and its answer: status, or error."""

    __slots__ = ('operation', 'merchant', 'key', 'amount', 'currency',
                 'payment', 'sent', 'received', 'status', 'headers', 'body',
                 'error')

    def __init__(self, operation, merchant, key, amount, currency, payment):
        self.operation = operation
        self.merchant = merchant
        self.key = key
        self.amount = amount
        self.currency = currency
        self.payment = payment
        self.sent = self.received = None
        self.status = None
        self.headers = {}
        self.body = b''
        self.error = None

    def __repr__(self):
        answer = self.error or self.status

        if self.status is not None and self.status != 200:
            answer = f'{answer} {self.code}'

        return (f'<{self.operation} {self.merchant} {self.key} '
                f'{self.amount}: {answer} in {self.seconds:.3f} s>')

    @property
    def seconds(self):
        return (self.received or time.monotonic()) - self.sent

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        try:
            return self.json.get('code')
        except ValueError:
            return self.body[:60]

    @property
    def ok(self):
        return self.status == 200

    @property
    def replayed(self):
        return self.headers.get('idempotent-replayed') == 'true'

    @property
    def id(self):
        return self.json['paymentId']

    @property
    def path(self):
        path = f'/api/payments/{self.operation}'
        return f'{path}/{self.payment}' if self.payment else path

    def content(self):
        content = {'merchantId': self.merchant, 'idempotencyKey': self.key}

        if self.amount is not None:
            content['amount'] = self.amount

        if self.operation == 'authorize':
            content['currency'] = self.currency

        if self.operation == 'refund':
            content['reason'] = 'returned'

        return json.dumps(content).encode()

    def wire(self, extra=b''):
        content = self.content()

        return (f'POST {self.path} HTTP/1.1\r\nHost: t\r\n'
                'Content-Type: application/json\r\n'
                f'Content-Length: {len(content)}\r\n').encode() \
            + extra + b'\r\n' + content


class Journal(list):
    """Every Call of a test. Appended to from one thread only."""

    def of(self, **members):
        return [call for call in self
                if all(getattr(call, name) == value
                       for name, value in members.items())]

    def statuses(self):
        """How often each answer was given, for a failing test's message."""

        counts = {}

        for call in self:
            what = call.error or call.status
            counts[what] = counts.get(what, 0) + 1

        return counts


class Connection:
    """One HTTP connection, for one request at a time."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None
        self.used = False

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection(
            '127.0.0.1', self.port)
        self.used = False

    def close(self):
        if self.writer:
            self.writer.close()

        self.reader = self.writer = None

    async def answer(self, call):
        head = await self.reader.readuntil(b'\r\n\r\n')
        lines = head.decode('latin-1').split('\r\n')
        headers = {}

        for line in lines[1:]:
            if line:
                name, value = line.split(':', 1)
                headers[name.lower()] = value.strip()

        body = await self.reader.readexactly(
            int(headers.get('content-length', 0)))

        call.received = time.monotonic()
        call.status = int(lines[0].split(' ', 2)[1])
        call.headers = headers
        call.body = body
        self.used = True

        if headers.get('connection') == 'close':
            self.close()

    async def send(self, call, extra=b'', patience=PATIENCE):
        """Sends, waits for the answer, and never raises: see call.error.

        refused: nobody listens; stale: a connection kept alive was closed
        before anything came back; reset: a fresh one was; timeout: nothing
        came in time.
        """

        call.sent = time.monotonic()

        try:
            if self.writer is None:
                await self.open()

            self.writer.write(call.wire(extra))
            await asyncio.wait_for(self.answer(call), patience)

        except ConnectionRefusedError:
            call.error = 'refused'

        except asyncio.TimeoutError:
            call.error = 'timeout'

        except (OSError, asyncio.IncompleteReadError):
            call.error = 'stale' if self.used else 'reset'

        if call.error:
            call.received = time.monotonic()
            self.close()

        return call


class Client:
    """One at a time, for tests that tell a story."""

    def __init__(self, port, journal=None):
        self.port = port
        self.journal = Journal() if journal is None else journal
        self.serial = 0
        self.name = f'{KEY_MARK}-{random.randrange(1 << 48):x}'

    def key(self):
        self.serial += 1
        return f'{self.name}-{self.serial}'

    def call(self, operation='authorize', merchant='MERCHANT-1', key=None,
             amount=1000, currency='KRW', payment=None):
        return Call(operation, merchant, key or self.key(), amount, currency,
                    payment)

    async def asend(self, call, connection=None, patience=PATIENCE):
        mine = connection is None
        connection = connection or Connection(self.port)
        await connection.send(call, patience=patience)
        self.journal.append(call)

        if mine:
            connection.close()

        return call

    def send(self, call, patience=PATIENCE):
        return loop.run(self.asend(call, patience=patience))

    def authorize(self, **members):
        return self.send(self.call('authorize', **members))

    def change(self, operation, payment, **members):
        return self.send(self.call(operation, payment=payment, **members))

    def at_once(self, calls, patience=PATIENCE):
        """All together, each on a connection of its own."""

        async def everything():
            return await asyncio.gather(
                *(self.asend(call, patience=patience) for call in calls))

        return loop.run(everything())

    def later(self, calls, patience=PATIENCE):
        """As at_once(), in the background: a Future of the list."""

        async def everything():
            return await asyncio.gather(
                *(self.asend(call, patience=patience) for call in calls))

        return loop.spawn(everything())

    def pipelined(self, calls):
        """All on one connection, sent before the first answer is read."""

        async def everything():
            connection = Connection(self.port)
            await connection.open()

            for call in calls:
                call.sent = time.monotonic()

            connection.writer.write(b''.join(call.wire() for call in calls))

            for call in calls:
                await asyncio.wait_for(connection.answer(call), PATIENCE)
                self.journal.append(call)

            connection.close()
            return calls

        return loop.run(everything())


class Load:
    """Clients that go on until they are stopped, in the background.

    fresh: a connection for each request; otherwise one is kept, and a request
    that met a connection just closed is sent again with its key, as every
    keep-alive client must. changes: some payments are captured and refunded.
    fights: several clients change the same payments, in part, and send earlier
    requests again.
    """

    def __init__(self, port, journal, clients=8, merchants=50, fresh=False,
                 changes=False, fights=False, pause=0, merchant=None,
                 name='load', patience=PATIENCE, seed=None):
        self.port = port
        self.journal = journal
        self.clients = clients
        self.merchants = merchants
        self.fresh = fresh
        self.changes = changes
        self.fights = fights
        self.live = []
        self.pause = pause
        self.merchant = merchant
        self.patience = patience
        self.name = f'{KEY_MARK}-{name}-{random.randrange(1 << 32):x}'
        self.seed = seed
        self.stopping = False
        self.done = None
        self.calls = Journal()

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        self.stop()

    def start(self):
        self.done = loop.spawn(self._all())
        return self

    def stop(self):
        self.stopping = True
        self.done.result(self.patience + 30)

    def wait(self, n, seconds=20):
        """Until n more requests were answered with 200. It may take long on a
        busy machine, but there must be some progress in so many seconds; our
        own, not those in which we were not given the processor."""

        good = self.good()
        n += good
        patience = seconds * 100

        while self.good() < n:
            if self.good() > good:
                good = self.good()
                patience = seconds * 100

            patience -= 1
            assert patience > 0, \
                f'load makes no progress: {self.calls.statuses()}'
            time.sleep(0.01)

    def good(self):
        return sum(1 for call in self.calls if call.status == 200)

    def bad(self):
        return [call for call in self.calls
                if call.status != 200 and call.error != 'stale']

    async def _all(self):
        await asyncio.gather(*(self._client(i) for i in range(self.clients)))

    async def _client(self, i):
        rng = random.Random(None if self.seed is None else self.seed + i)
        connection = Connection(self.port)
        serial = 0
        live = []

        while not self.stopping:
            serial += 1
            key = f'{self.name}-{i}-{serial}'
            amount = rng.randrange(1, 50) * 1000

            if self.fights and self.live and rng.random() < 0.5:
                call = self._fight(rng, key)

            elif self.changes and live and rng.random() < 0.5:
                before = live.pop(rng.randrange(len(live)))
                operation = 'capture' if before.operation == 'authorize' \
                    else 'refund'
                call = Call(operation, before.merchant, key,
                            before.json['amount'], None, before.id)

            else:
                merchant = self.merchant or \
                    f'MERCHANT-{rng.randrange(self.merchants) + 1}'
                call = Call('authorize', merchant, key, amount, 'KRW', None)

            call = await self._send(connection, call)

            if self.changes and call.ok and call.operation != 'refund' \
                    and len(live) < 50:
                live.append(call)

            if self.fights and call.ok and call.operation == 'authorize' \
                    and not call.replayed:
                self.live = self.live[-9:] + [call]

            if self.fresh:
                connection.close()

            if self.pause:
                await asyncio.sleep(self.pause)
            elif not call.ok:
                await asyncio.sleep(0.01)

        connection.close()

    def _fight(self, rng, key):
        """Something about one of the latest payments, or an earlier request,
        whatever became of it."""

        if rng.random() < 0.3:
            call = rng.choice(self.calls[-200:])
            return Call(call.operation, call.merchant, call.key, call.amount,
                        call.currency, call.payment)

        before = rng.choice(self.live)
        operation = rng.choice(['capture', 'capture', 'capture', 'refund',
                                'refund', 'void'])
        amount = None if operation == 'void' \
            else rng.choice([1, 10, 100, before.amount])

        return Call(operation, before.merchant, key, amount, None, before.id)

    async def _send(self, connection, call):
        while True:
            await connection.send(call, patience=self.patience)
            self.journal.append(call)
            self.calls.append(call)

            if call.error != 'stale':
                return call

            call = Call(call.operation, call.merchant, call.key, call.amount,
                        call.currency, call.payment)
