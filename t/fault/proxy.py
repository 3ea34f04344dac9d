"""A TCP proxy that stands between nginx and MariaDB and does what networks do.

It knows MariaDB's framing as far as it must: a packet that starts with
sequence number 0 is a command, its first byte says which one. So it can be
told to strike at one command ("the COMMIT") and at one side of it: before the
server has it, after the server has answered it, or in the middle.

    proxy = Proxy(server.socket)
    strike = proxy.strike(is_commit, 'after')
    ...
    strike.wait()

A proxy can also make the server look like one of another version:

    proxy.version = '12.1.2-MariaDB'
    proxy.rewrite('@@global.read_only', "'OFF'")

Links that are TLS are forwarded unread.
"""

import asyncio
import socket
import struct
import threading

import loop
from freeport import free_port

COM_QUERY = 0x03
COM_STMT_PREPARE = 0x16
COM_STMT_BULK_EXECUTE = 0xfa


# What a strike may wait for. A link knows the text of what it saw prepared.

def is_query(text):
    return lambda payload, link: payload[0] == COM_QUERY and text in payload


def is_commit(payload, link):
    return payload[:1] == b'\x03' and payload[1:].strip() == b'COMMIT'


def is_rollback(payload, link):
    return payload[:1] == b'\x03' and payload[1:].strip() == b'ROLLBACK'


def is_bulk(payload, link):
    return payload[0] == COM_STMT_BULK_EXECUTE


def is_bulk_of(text):
    return lambda payload, link: is_bulk(payload, link) \
        and text in link.statements.get(payload[1:5], b'')


def is_after(text):
    """The command behind such a query."""

    def matches(payload, link):
        before, link.latest = link.latest, payload
        return is_query(text)(before, link)

    return matches


class Strike:
    """Something that is to happen at a command, at most so many times.

    before      the server never sees the command; both sides are closed
    half        the server sees half of it
    after       the server carries it out and answers; nobody sees the answer
    at-once     the server gets it, and neither side knows what became of it
    hold        nothing moves on this link any more; it stays open. release()
                forwards what was held, however late
    swallow     the server gets it; its answer never arrives; nothing is closed
    withhold    the server carries it out; its answer arrives when release()
                says so
    delay       it arrives late
    error       the server never sees it; the answer is an error, by number
    elsewhere   the server carries it out on a table that is not there
    lie         the server carries it out; the answer is an error all the same
    """

    def __init__(self, matches, action, times, seconds, skip, error):
        self.matches = matches
        self.action = action
        self.times = times
        self.seconds = seconds
        self.skip = skip
        self.error = error
        self.hits = 0
        self.links = []
        self._hit = threading.Event()

    def applies(self, payload, link):
        if self.hits >= self.times or not self.matches(payload, link):
            return False

        if self.skip:
            self.skip -= 1
            return False

        return True

    def hit(self, link):
        self.hits += 1
        self.links.append(link)
        self._hit.set()

    def wait(self, seconds=10):
        assert self._hit.wait(seconds), f'no {self.action} in {seconds} s'

    def release(self):
        for link in self.links:
            loop.call(link.flow.set)


def error_packet(number):
    text = b'\xff' + struct.pack('<H', number) + b'#HY000provoked'
    return len(text).to_bytes(3, 'little') + b'\x01' + text


class Link:
    """A connection of nginx's, and the one to the server that belongs to it."""

    def __init__(self, proxy, reader, writer):
        self.proxy = proxy
        self.client = reader, writer
        self.server = None
        self.flow = asyncio.Event()
        self.flow.set()
        self.swallow = None
        self.withhold = None
        self.tls = False
        self.preparing = None
        self.statements = {}        # by their ids
        self.latest = b'\0'         # command, of those that is_after() saw
        self.greeted = False

    async def serve(self):
        proxy = self.proxy
        proxy.links.add(self)

        try:
            await proxy.flow.wait()

            if isinstance(proxy.target, tuple):
                self.server = await asyncio.open_connection(*proxy.target)
            else:
                self.server = await asyncio.open_unix_connection(proxy.target)

            tasks = [asyncio.ensure_future(self._up()),
                     asyncio.ensure_future(self._down())]

            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

            for task in tasks:
                task.cancel()

            await asyncio.gather(*tasks, return_exceptions=True)

        except OSError:
            pass

        finally:
            self.cut()
            proxy.links.discard(self)

    def cut(self, reset=False):
        for side in (self.client, self.server):
            if side is None:
                continue

            sock = side[1].get_extra_info('socket')

            if side[1].is_closing():
                continue

            if reset and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                struct.pack('ii', 1, 0))

            side[1].transport.abort()

    async def _moves(self):
        """Where a network would lose time."""

        if self.proxy.delay:
            await asyncio.sleep(self.proxy.delay)

        await self.flow.wait()
        await self.proxy.flow.wait()

    async def _forward(self, side, data):
        side[1].write(data)
        await side[1].drain()

    async def _up(self):
        buffered = b''

        while True:
            data = await self.client[0].read(65536)
            if not data:
                break

            if self.tls:
                await self._moves()
                await self._forward(self.server, data)
                continue

            buffered += data

            while len(buffered) >= 4:
                length = int.from_bytes(buffered[:3], 'little')

                if len(buffered) < 4 + length:
                    break

                packet, buffered = buffered[:4 + length], buffered[4 + length:]

                await self._moves()

                if await self._packet(packet) is False:
                    return

                if self.tls:
                    await self._forward(self.server, buffered)
                    buffered = b''
                    break

    async def _packet(self, packet):
        payload = packet[4:]

        if packet[3] != 0 or not payload:
            # a short answer to the greeting that asks for TLS
            self.tls = packet[3] == 1 and len(payload) == 32
            await self._forward(self.server, packet)
            return True

        if payload[0] in (COM_QUERY, COM_STMT_PREPARE):
            for old, new in self.proxy.rewrites:
                payload = payload.replace(old, new)

            packet = len(payload).to_bytes(3, 'little') + b'\0' + payload

        if payload[0] == COM_STMT_PREPARE:
            self.preparing = payload[1:]

        strike = next((strike for strike in self.proxy.strikes
                       if strike.applies(payload, self)), None)

        if strike is None:
            await self._forward(self.server, packet)
            return True

        action = strike.action

        if action == 'before':
            strike.hit(self)
            return False

        if action == 'half':
            await self._forward(self.server, packet[:len(packet) // 2])
            strike.hit(self)
            return False

        if action == 'at-once':
            await self._forward(self.server, packet)
            strike.hit(self)
            self.server[1].write_eof()
            return False

        if action == 'hold':
            self.flow.clear()
            strike.hit(self)
            await self._moves()
            await self._forward(self.server, packet)
            return True

        if action == 'withhold':
            self.withhold = strike
            await self._forward(self.server, packet)
            return True

        if action == 'delay':
            strike.hit(self)
            await asyncio.sleep(strike.seconds)
            await self._forward(self.server, packet)
            return True

        if action == 'elsewhere':
            strike.hit(self)
            payload = payload.replace(b'FROM outbox_event', b'FROM nowhere')
            await self._forward(self.server, len(payload).to_bytes(3, 'little')
                                + b'\0' + payload)
            return True

        if action == 'error':
            strike.hit(self)
            await self._forward(self.client, error_packet(strike.error))
            return True

        # after, swallow, lie: the next thing the server says is for us alone
        self.swallow = strike
        await self._forward(self.server, packet)
        return True

    async def _down(self):
        while True:
            data = await self.server[0].read(65536)
            if not data:
                break

            if not self.greeted:
                self.greeted = True
                data = self._greeting(data)

            if self.preparing and data[4] == 0:
                self.statements[data[5:9]] = self.preparing
                self.preparing = None

            if self.withhold:
                self.flow.clear()
                self.withhold.hit(self)
                self.withhold = None

            if self.swallow:
                self.swallow.hit(self)

                if self.swallow.action == 'after':
                    return

                if self.swallow.action == 'swallow':
                    await asyncio.Event().wait()

                # an OK or an error is one packet; others may follow it
                while len(data) < 4 or len(data) < 4 + int.from_bytes(
                        data[:3], 'little'):
                    data += await self.server[0].read(65536)

                data = error_packet(self.swallow.error) \
                    + data[4 + int.from_bytes(data[:3], 'little'):]
                self.swallow = None

            await self._moves()
            await self._forward(self.client, data)


    def _greeting(self, data):
        """The server's first packet: one byte, its version, a zero byte, and
        what stays as it is."""

        if self.proxy.version is None:
            return data

        rest = data[data.index(b'\0', 5):]
        payload = data[4:5] + b'5.5.5-' + self.proxy.version.encode() + rest

        return len(payload).to_bytes(3, 'little') + b'\0' + payload


class Proxy:
    """target: a path, or (host, port). Listens at host, port."""

    def __init__(self, target, host='127.0.0.1'):
        self.target = target if isinstance(target, tuple) else str(target)
        self.host = host
        self.port = free_port(host=host)
        self.links = set()
        self.accepted = 0
        self.strikes = []
        self.version = None
        self.rewrites = []
        self.delay = 0
        self.listener = None
        self.flow = None
        loop.run(self._open())

    @property
    def address(self):
        return f'[{self.host}]:{self.port}' if ':' in self.host \
            else f'{self.host}:{self.port}'

    def rewrite(self, old, new):
        """Every statement that has the one gets the other in its place."""
        self.rewrites.append((old.encode(), new.encode()))

    async def _open(self):
        if self.flow is None:
            self.flow = asyncio.Event()
            self.flow.set()

        self.listener = await asyncio.start_server(self._accept, self.host,
                                                   self.port)

    async def _accept(self, reader, writer):
        self.accepted += 1
        await Link(self, reader, writer).serve()

    def strike(self, matches, action, times=1, seconds=0, skip=0, error=0):
        strike = Strike(matches, action, times, seconds, skip, error)
        self.strikes.append(strike)
        return strike

    def calm(self):
        """No more strikes."""
        self.strikes.clear()

    def refuse(self):
        """Nobody listens, and what was open is gone."""

        async def close():
            self.listener.close()

            for link in list(self.links):
                link.cut(reset=True)

        loop.run(close())

    def close_listener(self):
        """Nobody listens; what is open stays."""

        async def close():
            self.listener.close()

        loop.run(close())

    def accept(self):
        loop.run(self._open())

    def cut(self, reset=False):
        """Ends every link there is; how many there were."""

        def cut():
            links = list(self.links)

            for link in links:
                link.cut(reset)

            return len(links)

        return loop.call(cut)

    def black_hole(self):
        """Nothing arrives any more, and nothing is closed."""
        loop.call(self.flow.clear)

    def heal(self):
        loop.call(self.flow.set)

    def close(self):
        self.heal()
        self.refuse()
