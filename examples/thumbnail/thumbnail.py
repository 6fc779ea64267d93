# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /pydicom/ID answers an instance as a JPEG of at most 64 x 64 pixels.

The route keeps the name that it has in Orthanc's documentation; /thumbnail/ID is the same.
"""

import io
from typing import Any

import orthanc
from PIL import Image

SIZE = (64, 64)


def thumbnail(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """Lets Orthanc render the instance, and Pillow make it small."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    (instance_id,) = request['groups']
    rendered = orthanc.RestApiGet('/instances/%s/rendered' % instance_id)
    image = Image.open(io.BytesIO(rendered))
    image.thumbnail(SIZE, Image.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, format='JPEG', quality=80)
    output.AnswerBuffer(jpeg.getvalue(), 'image/jpeg')


orthanc.RegisterRestCallback('/(?:pydicom|thumbnail)/(.*)', thumbnail)
