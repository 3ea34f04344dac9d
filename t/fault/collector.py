"""A collector of traces: it takes OTLP over HTTP in JSON, as strictly as the
protocol's own messages are, and keeps the spans."""

import base64
import http.server
import json
import threading

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import \
    ExportTraceServiceRequest

from freeport import free_port

KINDS = {1: 'INTERNAL', 2: 'SERVER', 3: 'CLIENT', 4: 'PRODUCER'}


def as_protobuf(value):
    """OTLP's JSON has numbers of spans in hexadecimal, protobuf's bytes in
    base64; all else is protobuf's JSON."""

    if isinstance(value, list):
        return [as_protobuf(each) for each in value]

    if isinstance(value, dict):
        return {name: base64.b64encode(bytes.fromhex(each)).decode()
                if name in ('traceId', 'spanId', 'parentSpanId')
                else as_protobuf(each) for name, each in value.items()}

    return value


def said(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof('value'))
            for each in attributes}


class Span:

    def __init__(self, resource, span):
        self.resource = said(resource.attributes)
        self.trace = span.trace_id.hex()
        self.id = span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.name = span.name
        self.kind = KINDS[span.kind]
        self.start = span.start_time_unix_nano
        self.end = span.end_time_unix_nano
        self.links = [(link.trace_id.hex(), link.span_id.hex())
                      for link in span.links]
        self.attributes = said(span.attributes)
        self.failed = span.status.code == 2
        self.message = span.status.message

        assert len(self.trace) == 32 and len(self.id) == 16
        assert len(self.parent) in (0, 16) and self.start <= self.end


class Collector:
    """It listens from start() to stop(), always on the same port."""

    def __init__(self):
        self.port = free_port()
        self.spans = []
        self.refuse = []                # statuses of the next answers
        self.requests = 0
        self.server = None

    @property
    def url(self):
        return f'http://127.0.0.1:{self.port}/v1/traces'

    def start(self):
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):

            def do_POST(self):
                collector.requests += 1
                body = self.rfile.read(int(self.headers['Content-Length']))
                status = collector.refuse.pop(0) if collector.refuse else 200

                if status == 200:
                    assert self.path == '/v1/traces'
                    assert self.headers['Content-Type'] == 'application/json'
                    collector.take(body)

                self.send_response(status)
                self.send_header('Content-Length', '2')
                self.end_headers()
                self.wfile.write(b'{}')

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(
            ('127.0.0.1', self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,),
                         daemon=True).start()

        return self

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def take(self, body):
        request = json_format.ParseDict(as_protobuf(json.loads(body)),
                                        ExportTraceServiceRequest())

        self.spans += [Span(resource.resource, span)
                       for resource in request.resource_spans
                       for scope in resource.scope_spans
                       for span in scope.spans]

    def of(self, trace):
        """{name: span} of one trace; each name is there once."""

        spans = [span for span in list(self.spans) if span.trace == trace]
        named = {span.name: span for span in spans}
        assert len(named) == len(spans)

        return named
