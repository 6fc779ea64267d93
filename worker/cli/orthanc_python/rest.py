# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge's REST routes in one Orthanc.

Here:      asking, with credentials that are in no command line, and what can go wrong.
Elsewhere: what the answers mean (status.py).
"""

import base64
import http.client
import json
import netrc
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request

from orthanc_python import NO_ANSWER, REFUSED, USAGE, Problem

DEFAULT_URL = 'http://localhost:8042'


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would become a GET."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        return None


class Server:
    """The REST routes of the bridge in one Orthanc."""

    optional = ('stacks',)      # what older releases lack

    def __init__(self, arguments):
        self.url = arguments.url.rstrip('/')
        self.path = '/' + arguments.path.strip('/')
        self.timeout = arguments.timeout
        parts = self.split()
        if parts.scheme not in ('http', 'https') or not parts.hostname:
            raise Problem(USAGE, 'The URL %s is not one of http or https' % self.url)
        if parts.username or parts.password:
            raise Problem(USAGE, 'The URL must not have a user in it: every user of the machine can read '
                          'command lines. See --help for other ways')
        self.host = parts.hostname
        # Directly: what the environment says of proxies is not meant for a server of one's own.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects())

    def split(self):
        """The parts of the URL. Raises Problem if the HTTP client would not take it, or the path."""
        try:
            parts = urllib.parse.urlsplit(self.url)
            _ = parts.port, (parts.hostname or '').encode('idna'), (parts.path + self.path).encode('ascii')
        except ValueError as error:
            raise Problem(USAGE, 'The URL %s cannot be used: %s' % (self.url + self.path, error)) from None
        return parts

    def credentials(self):
        user = os.environ.get('ORTHANC_PYTHON_USER')
        if user:
            return user, os.environ.get('ORTHANC_PYTHON_PASSWORD', '')
        path = os.environ.get('NETRC') or os.path.expanduser('~/.netrc')
        try:
            found = netrc.netrc(path).authenticators(self.host)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, netrc.NetrcParseError) as error:
            raise Problem(USAGE, '%s cannot be used: %s' % (path, error)) from None
        return (found[0], found[2] or '') if found else None

    def open(self, request):
        """The answer, whatever its status is."""
        try:
            return self.opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            return error

    def ask(self, method, name):
        """(status, what the JSON body says or None). Raises Problem without an answer."""
        request = urllib.request.Request(self.url + self.path + '/' + name, method=method,
                                         data=b'' if method == 'POST' else None)
        credentials = self.credentials()
        if credentials is not None:
            text = base64.b64encode(('%s:%s' % credentials).encode('utf-8', 'surrogateescape')).decode()
            request.add_unredirected_header('Authorization', 'Basic ' + text)
        try:
            with self.open(request) as answer:
                status, body = answer.code, answer.read()
        except TimeoutError:
            raise Problem(NO_ANSWER, '%s has not answered within %g s' % (self.url, self.timeout)) from None
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            reason = getattr(error, 'reason', error)
            raise Problem(NO_ANSWER, '%s does not answer: %s' % (self.url, reason or type(error).__name__)) from None
        if status in (401, 403):
            raise Problem(REFUSED, '%s does not allow this%s (HTTP status %d)' % (
                self.url, '' if credentials else ', without a user', status))
        if status == 404 and name in self.optional:
            return status, None
        if status == 404:
            raise Problem(NO_ANSWER, '%s has no %s/%s: the Python bridge is not loaded there, or Python.AdminPath '
                          'is another one (--path)' % (self.url, self.path, name))
        try:
            return status, json.loads(body)
        except ValueError:
            return status, None

    def unexpected(self, status):
        return Problem(NO_ANSWER, '%s has given an answer that is not expected (HTTP status %d)' % (self.url, status))
