# SPDX-License-Identifier: GPL-3.0-or-later
"""A DICOM server of the script's own, made with pynetdicom, beside that of Orthanc.

It takes instances by C-STORE on a port of its own and stores them in Orthanc. The server is
started when Orthanc has started and ended when Orthanc stops: so the next generation of the
script finds its port free when the script is loaded again.

pynetdicom is in none of Debian's releases: pip install "pynetdicom>=2.1".
"""

import json
from typing import Any

import orthanc
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

CONFIGURATION = json.loads(orthanc.GetConfiguration())['PynetdicomServer']
SUCCESS, CANNOT_STORE = 0x0000, 0xA700


def on_store(event: evt.Event) -> int:
    """A thread of the association runs this, and may call Orthanc like any other."""
    try:
        answer = json.loads(orthanc.RestApiPost('/instances', event.encoded_dataset()))
    except orthanc.OrthancException as e:
        orthanc.LogError('An instance of %s cannot be stored: %s' % (event.assoc.requestor.ae_title, e.args[1]))
        return CANNOT_STORE
    print('Stored %s for %s' % (answer['ID'], event.assoc.requestor.ae_title))
    return SUCCESS


class Server:
    """Between ORTHANC_STARTED and ORTHANC_STOPPED."""

    def __init__(self) -> None:
        self.entity = AE(CONFIGURATION['AET'])
        self.entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            self.entity.add_supported_context(context.abstract_syntax)
        self.running: Any = None

    def on_change(self, change_type: int, level: int, resource: str) -> None:
        """One event at a time, in order."""
        if change_type == orthanc.ChangeType.ORTHANC_STARTED:
            self.running = self.entity.start_server((CONFIGURATION['Address'], CONFIGURATION['Port']), block=False,
                                                    evt_handlers=[(evt.EVT_C_STORE, on_store)])
            print('Listening on port %d' % self.running.server_address[1])
        elif change_type == orthanc.ChangeType.ORTHANC_STOPPED and self.running is not None:
            self.running.shutdown()
            print('No longer listening')


orthanc.RegisterOnChangeCallback(Server().on_change)
