"""A proxy before the one broker of a Kafka, which clients cannot get around:
the broker's address in what it tells of the cluster is replaced by the
proxy's. It can also lie about the next batch that the broker took."""

import socket
import struct
import threading

PRODUCE = 0             # the API's key


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
        self.error = 0                      # what the next batch is told
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
            batches = set()                 # of which no answer came yet
            for pump, *ends in ((self._up, client, server),
                                (self._down, server, client)):
                threading.Thread(target=self._pump,
                                 args=(pump, batches, *ends),
                                 daemon=True).start()

    @staticmethod
    def _frames(source):
        """What is sent, each with the 4 bytes of its length."""

        buffered = b''

        while data := source.recv(65536):
            buffered += data

            while len(buffered) >= 4:
                end = 4 + struct.unpack_from('>i', buffered)[0]
                if len(buffered) < end:
                    break
                yield buffered[:end]
                buffered = buffered[end:]

    def _up(self, frame, batches):
        key, version, number = struct.unpack_from('>hhi', frame, 4)

        if key == PRODUCE:
            assert version < 9, 'the answer would have another form'
            batches.add(number)

        return frame

    def _down(self, frame, batches):
        gate = threading.Event()

        while self.held.is_set():
            gate.wait(0.01)

        number, = struct.unpack_from('>i', frame, 4)

        if number in batches:
            batches.remove(number)

            with self.lock:
                error, self.error = self.error, 0

            if error:
                return self._lie(frame, error)

        return frame.replace(self.told, self.tell)

    @staticmethod
    def _lie(frame, error):
        """The answer to a batch, in which the first partition has an error."""

        # number of topics, name, number of partitions, partition, error
        name, = struct.unpack_from('>h', frame, 12)
        answer = bytearray(frame)
        struct.pack_into('>h', answer, 14 + name + 8, error)

        return bytes(answer)

    def _pump(self, pump, batches, source, sink):
        try:
            for frame in self._frames(source):
                sink.sendall(pump(frame, batches))
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
