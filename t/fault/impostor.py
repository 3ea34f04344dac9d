"""Somebody who answers at the database's address and is not it.

It greets as a MariaDB does, reads the login, asks for the password by another
method, and lets nobody in. What clients sent it is kept, as it was read behind
TLS.

    impostor = Impostor(method='mysql_clear_password')
    ...
    impostor.heard        a bytearray for each connection
"""

import socket
import ssl
import struct
import threading

CLIENT_SSL = 0x0800
# long password, connect with database, protocol 4.1, secure connection,
# plugin auth
CAPABILITIES = 0x0001 | 0x0008 | 0x0200 | 0x8000 | 0x80000

# what a method begins with, where it is not what mysql_native_password does
NONCES = {'client_ed25519': b'n' * 32}


class Impostor:

    def __init__(self, method=None, tls=None, crowd=1):
        """method: what it wants to authenticate by. tls: the prefix of a
        certificate's files. crowd: how many must have logged in before it
        answers the first."""

        self.method = method
        self.tls = tls
        self.heard = []
        self.answers = []               # to the question by that method
        self.crowd = threading.Barrier(crowd) if crowd > 1 else None
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.address = f'127.0.0.1:{self.port}'

        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return

            threading.Thread(target=self._talk, args=(connection,),
                             daemon=True).start()

    def _talk(self, connection):
        connection.settimeout(5)
        heard = bytearray()
        self.heard.append(heard)

        def hear():
            head = _exactly(connection, 4)
            body = _exactly(connection, int.from_bytes(head[:3], 'little'))
            heard.extend(body)
            return head[3], body

        try:
            connection.sendall(self._greeting())
            number, login = hear()

            if self.tls and len(login) == 32:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(f'{self.tls}.crt', f'{self.tls}.key')
                connection = context.wrap_socket(connection, server_side=True)
                connection.settimeout(5)
                number, login = hear()

            if self.crowd:
                self.crowd.wait(5)

            if self.method:
                connection.sendall(_packet(number + 1, b'\xfe'
                                           + self.method.encode() + b'\0'
                                           + NONCES.get(self.method,
                                                        b'n' * 20 + b'\0')))
                number, answer = hear()
                self.answers.append(answer)

            connection.sendall(_packet(number + 1, b'\xff'
                                       + struct.pack('<H', 1045)
                                       + b'#28000Access denied'))

        except (OSError, EOFError, threading.BrokenBarrierError):
            pass

        finally:
            connection.close()

    def _greeting(self):
        capabilities = CAPABILITIES | (CLIENT_SSL if self.tls else 0)

        return _packet(0, b'\x0a5.5.5-10.11.2-MariaDB\0'
                       + struct.pack('<I', 7) + b'8bytes..' + b'\0'
                       + struct.pack('<H', capabilities & 0xffff)
                       + b'\x2d' + struct.pack('<H', 2)
                       + struct.pack('<H', capabilities >> 16)
                       + bytes([21]) + bytes(10)
                       + b'twelve bytes' + b'\0'
                       + b'mysql_native_password\0')


def _exactly(connection, n):
    data = b''

    while len(data) < n:
        part = connection.recv(n - len(data))
        if not part:
            raise EOFError
        data += part

    return data


def _packet(number, body):
    return len(body).to_bytes(3, 'little') + bytes([number & 0xff]) + body
