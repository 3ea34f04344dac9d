"""A plain HTTP/1.1 client that shows everything and hides nothing.

It pipelines, sends what it is told to byte for byte, and keeps headers as they
came. Every read has a limit, so a server that hangs fails a test.
"""

import json
import socket
import ssl

TIMEOUT = 15            # seconds that one answer may take
HEADERS_MAX = 65536


class Broken(Exception):
    """The server's answer is no HTTP, or there is none."""


class Response:
    """One answer; header names in lower case, in a list as they came."""

    def __init__(self, method, status, headers, body, interim=()):
        self.method = method                # of the request
        self.status = status
        self.headers = headers
        self.body = body
        self.interim = list(interim)        # 1xx that came before

    def header(self, name):
        """The value of the header, None if absent, an error if repeated."""

        values = [v for n, v in self.headers if n == name.lower()]

        if len(values) > 1:
            raise Broken(f'{len(values)} headers {name}')

        return values[0] if values else None

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f'<{self.status} {self.body[:300]!r}>'


class Connection:
    """A connection that stays open until somebody closes it."""

    def __init__(self, port, context=None, name='localhost'):
        self.socket = socket.create_connection(('127.0.0.1', port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        if context is not None:
            self.socket = context.wrap_socket(self.socket,
                                              server_hostname=name)

        self.buffer = b''

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        try:
            data = self.socket.recv(65536)
        except (TimeoutError, ssl.SSLError, ConnectionError) as e:
            raise Broken(f'no answer: {e!r}') from e

        if not data:
            raise Broken(f'the connection was closed after {self.buffer!r}')

        self.buffer += data

    def take(self, n):
        while len(self.buffer) < n:
            self.fill()

        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def take_until(self, end):
        while end not in self.buffer:
            if len(self.buffer) > HEADERS_MAX:
                raise Broken('headers without an end')
            self.fill()

        data, self.buffer = self.buffer.split(end, 1)
        return data

    def read(self, method='POST'):
        """The next answer, to a request of this method."""

        interim = []

        while True:
            status, headers = self.read_head()

            if status >= 200:
                break

            interim.append(status)

        response = Response(method, status, headers, b'', interim)

        if method == 'HEAD' or status in (204, 304):
            return response

        if response.header('transfer-encoding') == 'chunked':
            response.body = self.read_chunks()

        elif response.header('content-length') is not None:
            response.body = self.take(int(response.header('content-length')))

        else:
            response.body = self.read_to_end()

        return response

    def read_head(self):
        head = self.take_until(b'\r\n\r\n').decode('latin-1').split('\r\n')
        version, status, *_ = head[0].split(' ', 2)

        if version != 'HTTP/1.1':
            raise Broken(f'no status line: {head[0]!r}')

        headers = []

        for line in head[1:]:
            name, colon, value = line.partition(':')

            if not colon or name != name.strip():
                raise Broken(f'no header: {line!r}')

            headers.append((name.lower(), value.strip()))

        return int(status), headers

    def read_chunks(self):
        body = b''

        while True:
            size = int(self.take_until(b'\r\n').split(b';')[0], 16)
            data = self.take(size + 2)

            if data[size:] != b'\r\n':
                raise Broken('a chunk without an end')

            if size == 0:
                return body

            body += data[:size]

    def read_to_end(self):
        while True:
            try:
                self.fill()
            except Broken:
                data, self.buffer = self.buffer, b''
                return data

    def at_end(self):
        """Whether the server has closed the connection, with nothing said."""

        if self.buffer:
            return False

        try:
            return self.socket.recv(1) == b''
        except ConnectionResetError:
            return True

    def request(self, method, target, body=None, headers=()):
        self.send(request(method, target, body, headers))
        return self.read(method)


def request(method, target, body=None, headers=()):
    """The bytes of a request; body may be bytes, or what becomes JSON."""

    lines = [f'{method} {target} HTTP/1.1', 'Host: localhost']
    names = {name.lower() for name, _ in headers}

    if body is not None:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()

        if 'content-type' not in names:
            lines.append('Content-Type: application/json')

        if not names & {'content-length', 'transfer-encoding'}:
            lines.append(f'Content-Length: {len(body)}')

    lines += [f'{name}: {value}' for name, value in headers]

    return '\r\n'.join(lines + ['', '']).encode('latin-1') + (body or b'')
