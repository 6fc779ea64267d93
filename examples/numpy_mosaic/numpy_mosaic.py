# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /mosaic/ID answers all instances of a series as one PNG image, in rows of square tiles.

They are in the order of their instance numbers. The more there are, the smaller the tiles: the
image is never wider than 4096 pixels. Of an instance with several frames, it shows the first.
"""

import io
import json
import math
from typing import Any

import numpy
import orthanc
from PIL import Image, ImageOps

LARGEST_TILE = 128
LARGEST_WIDTH = 4096


def position(instance: dict[str, Any]) -> tuple[int, str]:
    """What the instances are sorted by; those without a number come first."""
    try:
        number = int(instance['MainDicomTags'].get('InstanceNumber', ''))
    except ValueError:
        number = -1
    return number, instance['ID']


def make_mosaic(instances: list[dict[str, Any]]) -> Any:
    """The mosaic as an array of rows, columns and colours."""
    columns = math.ceil(math.sqrt(len(instances)))
    rows = math.ceil(len(instances) / columns)
    side = max(1, min(LARGEST_TILE, LARGEST_WIDTH // columns))
    tiles: Any = numpy.zeros((rows * columns, side, side, 3), numpy.uint8)
    for tile, instance in zip(tiles, instances):
        rendered = orthanc.RestApiGet('/instances/%s/rendered' % instance['ID'])
        image = Image.open(io.BytesIO(rendered)).convert('RGB')
        tile[:] = ImageOps.pad(image, (side, side))     # black borders, where it is not square
    lines = tiles.reshape(rows, columns, side, side, 3).swapaxes(1, 2)
    return lines.reshape(rows * side, columns * side, 3)


def mosaic(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """An instance without an image is an error, with its traceback in the log."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    (series_id,) = request['groups']
    instances = json.loads(orthanc.RestApiGet('/series/%s/instances' % series_id))
    png = io.BytesIO()
    Image.fromarray(make_mosaic(sorted(instances, key=position))).save(png, format='PNG')
    output.AnswerBuffer(png.getvalue(), 'image/png')


orthanc.RegisterRestCallback('/mosaic/([^/]+)', mosaic)
