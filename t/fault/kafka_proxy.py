"""A proxy before the one broker of a Kafka, which clients cannot get around:
the broker's address in what it tells of the cluster is replaced by the
proxy's. It can be a bad link, slow or long, it can lie about the next batch that
the broker took, and have the broker refuse one."""

import queue
import socket
import struct
import threading
import time

# bytes: what a slow link takes at a time, and what it has taken beside
CHUNK = 4096
BUFFER = 16 * 1024

PRODUCE = 0             # the API's key


class KafkaProxy:
    """Listens on a port of its own; kafka is an outbox.Kafka. Every
    connection takes rate bytes a second upwards, and what goes into it comes
    out delay seconds later, either way."""

    def __init__(self, kafka, rate=None, delay=0):
        self.target = kafka.address.rpartition(':')
        self.target = self.target[0], int(self.target[2])
        self.rate = rate
        self.delay = delay
        self.carried = 0                    # bytes, upwards
        self.listener = socket.create_server(('127.0.0.1', 0))
        if rate:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                     BUFFER)
        self.port = self.listener.getsockname()[1]
        self.address = f'127.0.0.1:{self.port}'
        self.told = b'127.0.0.1' + struct.pack('>i', self.target[1])
        self.tell = b'127.0.0.1' + struct.pack('>i', self.port)
        self.lock = threading.Lock()
        self.links = []
        self.accepted = 0
        self.held = threading.Event()       # set: nothing is answered
        self.error = 0                      # what the next batch is told
        self.errors = {}                    # {partition: what all are told}
        self.astray = None                  # where the next batch does not go
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
            batches = {}                    # of which no answer came yet
            for pump, *ends in ((self._up, client, server),
                                (self._down, server, client)):
                way = queue.SimpleQueue()
                threading.Thread(target=self._pump,
                                 args=(pump, batches, way, *ends),
                                 daemon=True).start()
                threading.Thread(target=self._drain,
                                 args=(pump == self._up, way, *ends),
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

        # the answers of later versions have another form
        if key == PRODUCE and version < 9:
            with self.lock:
                topic, self.astray = self.astray, None

            batches[number] = topic

            if topic:
                return frame.replace(topic, self._nowhere(topic))

        return frame

    def _down(self, frame, batches):
        gate = threading.Event()

        while self.held.is_set():
            gate.wait(0.01)

        number, = struct.unpack_from('>i', frame, 4)

        if number in batches:
            topic = batches.pop(number)

            if topic:
                return frame.replace(self._nowhere(topic), topic)

            with self.lock:
                error, self.error = self.error, 0

            error = error or self.errors.get(self._partition(frame), 0)

            if error:
                return self._lie(frame, error)

        return frame.replace(self.told, self.tell)

    def lead_astray(self, topic):
        """The next batch of this topic is for one that the broker does not
        have, and its answer is as if it were for this: so speaks a broker that
        does not have a new topic yet."""

        with self.lock:
            self.astray = topic.encode()

    @staticmethod
    def _nowhere(topic):
        return b'-' * len(topic)

    # An answer to a batch: number of topics, name, number of partitions,
    # partition, error.

    @staticmethod
    def _partition(frame):
        name, = struct.unpack_from('>h', frame, 12)
        return struct.unpack_from('>i', frame, 14 + name + 4)[0]

    @staticmethod
    def _lie(frame, error):
        """The same, in which the first partition has an error."""

        name, = struct.unpack_from('>h', frame, 12)
        answer = bytearray(frame)
        struct.pack_into('>h', answer, 14 + name + 8, error)

        return bytes(answer)

    def _pump(self, pump, batches, way, source, sink):
        try:
            for frame in self._frames(source):
                frame = pump(frame, batches)
                while self.rate and way.qsize() > 1:
                    time.sleep(0.001)       # the link takes no more
                way.put((time.monotonic() + self.delay, frame))
        except OSError:
            pass
        way.put((0, None))

    def _drain(self, up, way, source, sink):
        free_at = 0
        try:
            while (item := way.get())[1] is not None:
                due, frame = item
                self._wait(due)
                for i in range(0, len(frame), CHUNK):
                    data = frame[i:i + CHUNK]
                    if up and self.rate:
                        # what a wait was too long is made up for
                        free_at = max(free_at, time.monotonic() - 0.05) \
                            + len(data) / self.rate
                        self._wait(free_at)
                    sink.sendall(data)
                    if up:
                        self.carried += len(data)
        except OSError:
            pass
        for end in source, sink:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @staticmethod
    def _wait(until):
        time.sleep(max(0, until - time.monotonic()))

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
