#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Web service that grants access to those who send the header "X-Token: open".

Usage: service.py [PORT]
"""

import http.server
import json
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers POST /authorize."""

    def do_POST(self) -> None:  # pylint: disable=invalid-name
        """The headers of the request arrive with names in lower case."""
        question = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        print(question['uri'], flush=True)
        answer = json.dumps({'granted': question['headers'].get('x-token') == 'open'}).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if __name__ == '__main__':
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
    print('listening on port %d' % server.server_address[1], flush=True)
    server.serve_forever()
