# SPDX-License-Identifier: GPL-3.0-or-later
"""Python's logging, with Orthanc's log as its destination.

GET /divide/A/B answers the quotient. What the script and the libraries that it uses say by the
logging module is found in Orthanc's log, at Orthanc's level, with the thread that said it, and with
the traceback of an exception.
"""

from __future__ import annotations

import logging
from typing import Any

import orthanc

FORMAT = '[%(threadName)s] %(name)s: %(message)s'


class OrthancHandler(logging.Handler):
    """Hands records to Orthanc, from Orthanc 1.12.4 on with the file and line that they come from."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if record.levelno >= logging.ERROR:
                log, level = orthanc.LogError, 'ERROR'
            elif record.levelno >= logging.WARNING:
                log, level = orthanc.LogWarning, 'WARNING'
            else:
                log, level = orthanc.LogInfo, 'INFO'
            newer: Any = orthanc    # the types of an older bridge do not know these names
            if hasattr(newer, 'LogMessage'):
                newer.LogMessage(text, record.name, record.filename, record.lineno,
                                 newer.LogCategory.GENERIC, getattr(newer.LogLevel, level))
            else:
                log(text)
        except Exception:  # as the handlers of the standard library do
            self.handleError(record)


handler = OrthancHandler()
handler.setFormatter(logging.Formatter(FORMAT))
logging.basicConfig(level=logging.INFO, handlers=[handler])
logger = logging.getLogger('divide')


def divide(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Says what it does, and what goes wrong."""
    dividend, divisor = (int(text) for text in request['groups'])
    logger.info('%d divided by %d', dividend, divisor)
    try:
        quotient = dividend // divisor
    except ZeroDivisionError:
        logger.exception('The request %s cannot be answered', uri)
        output.SendHttpStatusCode(400)
        return
    if quotient * divisor != dividend:
        logger.warning('%d is no multiple of %d', dividend, divisor)
    output.AnswerBuffer('%d\n' % quotient, 'text/plain')


orthanc.RegisterRestCallback('/divide/([0-9]+)/([0-9]+)', divide)
