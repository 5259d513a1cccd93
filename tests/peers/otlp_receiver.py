"""Takes OTLP over HTTP, and writes each span as a line of JSON. By the project's own messages.

    otlp_receiver.py FILE     listens on any port, says which on stdout
"""

import http.server
import json
import sys

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


def plain(value):
    return getattr(value, value.WhichOneof("value"))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = trace_service_pb2.ExportTraceServiceRequest()
        request.ParseFromString(body)
        with open(sys.argv[1], "a") as out:
            for group in request.resource_spans:
                resource = {a.key: plain(a.value) for a in group.resource.attributes}
                for scope in group.scope_spans:
                    for span in scope.spans:
                        out.write(json.dumps({
                            "path": self.path,
                            "type": self.headers["Content-Type"],
                            "resource": resource,
                            "name": span.name,
                            "trace": span.trace_id.hex(),
                            "span": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "ms": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                            "status": span.status.code,
                            "attributes": {a.key: plain(a.value) for a in span.attributes},
                        }) + "\n")
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"listening": server.server_port}), flush=True)
server.serve_forever()
