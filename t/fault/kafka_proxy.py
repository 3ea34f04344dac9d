"""A proxy before the one broker of a Kafka, which clients cannot get around:
the broker's address in what it tells of the cluster is replaced by the
proxy's."""

import socket
import struct
import threading


class KafkaProxy:
    """Listens on a port of its own; kafka is an outbox.Kafka."""

    def __init__(self, kafka):
        self.target = kafka.address.rpartition(':')
        self.target = self.target[0], int(self.target[2])
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.address = f'127.0.0.1:{self.port}'
        self.told = b'127.0.0.1' + struct.pack('>i', self.target[1])
        self.tell = b'127.0.0.1' + struct.pack('>i', self.port)
        self.lock = threading.Lock()
        self.links = []
        self.accepted = 0
        self.held = threading.Event()       # set: nothing is answered
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.accepted += 1
                self.links.append((client, server))
            for ends in (client, server), (server, client):
                threading.Thread(target=self._pump, args=ends,
                                 daemon=True).start()

    def _pump(self, source, sink):
        down = source.getpeername() == self.target
        gate = threading.Event()
        try:
            while data := source.recv(65536):
                if down:
                    while self.held.is_set():
                        gate.wait(0.01)
                    data = data.replace(self.told, self.tell)
                sink.sendall(data)
        except OSError:
            pass
        for end in source, sink:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Resets all connections; new ones are accepted."""

        with self.lock:
            links, self.links = self.links, []
        for client, server in links:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack('ii', 1, 0))
            for end in client, server:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            client.close()

    def close(self):
        self.listener.close()
        self.cut()
