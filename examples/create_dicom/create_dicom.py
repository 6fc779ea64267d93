# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a DICOM file from a PNG image when the server starts, and decodes it again.

"CreateDicom" -> "Image" of the configuration names the image, "Output" the file to write.
"""

import json

import orthanc

settings = json.loads(orthanc.GetConfiguration()).get('CreateDicom', {})
IMAGE = settings.get('Image', 'image.png')
OUTPUT = settings.get('Output', 'image.dcm')

TAGS = {
    'SOPClassUID': '1.2.840.10008.5.1.4.1.1.1',
    'PatientID': 'HELLO',
    'PatientName': 'WORLD',
}


def create() -> bytes:
    """Returns the bytes of the new DICOM file."""
    with open(IMAGE, 'rb') as file:
        image = orthanc.UncompressImage(file.read(), orthanc.ImageFormat.PNG)
    return orthanc.CreateDicom(json.dumps(TAGS), image,
                               orthanc.CreateDicomFlags.GENERATE_IDENTIFIERS)


def on_change(change_type: int, level: int, resource: str) -> None:
    """Decoding needs a server that has started."""
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        content = create()
        with open(OUTPUT, 'wb') as file:
            file.write(content)
        frame = orthanc.CreateDicomInstance(content).GetInstanceDecodedFrame(0)
        print('Size of the frame: %dx%d' % (frame.GetImageWidth(), frame.GetImageHeight()))


orthanc.RegisterOnChangeCallback(on_change)
