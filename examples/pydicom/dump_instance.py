# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /pydicom/ID shows the dataset of an instance as pydicom prints it."""

import io
from typing import Any

import orthanc
import pydicom


def dump(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Answers the dataset as text."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    (instance_id,) = request['groups']
    dataset = pydicom.dcmread(io.BytesIO(orthanc.GetDicomForInstance(instance_id)))
    output.AnswerBuffer(str(dataset), 'text/plain')


orthanc.RegisterRestCallback('/pydicom/(.*)', dump)
