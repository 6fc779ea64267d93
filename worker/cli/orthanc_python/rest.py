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
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ('http', 'https') or not parts.hostname:
            raise Problem(USAGE, 'The URL %s is not one of http or https' % self.url)
        if parts.username or parts.password:
            raise Problem(USAGE, 'The URL must not have a user in it: every user of the machine can read '
                          'command lines. See --help for other ways')
        self.host = parts.hostname
        # Directly: what the environment says of proxies is not meant for a server of one's own.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects())

    def credentials(self):
        user = os.environ.get('ORTHANC_PYTHON_USER')
        if user:
            return user, os.environ.get('ORTHANC_PYTHON_PASSWORD', '')
        path = os.environ.get('NETRC') or os.path.expanduser('~/.netrc')
        try:
            found = netrc.netrc(path).authenticators(self.host)
        except FileNotFoundError:
            return None
        except (OSError, netrc.NetrcParseError) as error:
            raise Problem(USAGE, '%s cannot be used: %s' % (path, error)) from None
        return (found[0], found[2] or '') if found else None

    def ask(self, method, name):
        """(status, what the JSON body says or None). Raises Problem without an answer."""
        request = urllib.request.Request(self.url + self.path + '/' + name, method=method,
                                         data=b'' if method == 'POST' else None)
        credentials = self.credentials()
        if credentials is not None:
            text = base64.b64encode(('%s:%s' % credentials).encode()).decode()
            request.add_unredirected_header('Authorization', 'Basic ' + text)
        try:
            with self.opener.open(request, timeout=self.timeout) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read()
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
