# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers C-MOVE requests instance by instance, so that the peer sees how far they are.

Each request makes a driver, an object of this script, which says how many instances there are
and then sends one at a time.
"""

import json
from typing import Any

import orthanc


class Driver:
    """One C-MOVE request."""

    def __init__(self, target: str, instances: list[str]) -> None:
        self.target = target
        self.instances = instances
        self.sent = 0

    def send_next(self) -> None:
        identifier = self.instances[self.sent]
        self.sent += 1
        orthanc.RestApiPost('/modalities/%s/store' % self.target, identifier)


def modality_of(aet: str) -> str:
    """The name of the modality that has this title."""
    for name, modality in json.loads(orthanc.RestApiGet('/modalities?expand')).items():
        if modality['AET'] == aet:
            return str(name)
    raise KeyError('there is no modality called %s' % aet)


def create(**request: Any) -> Driver:
    """A driver. What is raised here fails the whole request."""
    query = {tag: request[tag] for tag in ('PatientID', 'AccessionNumber', 'StudyInstanceUID', 'SeriesInstanceUID',
                                           'SOPInstanceUID') if request.get(tag)}
    instances = json.loads(orthanc.RestApiPost('/tools/find', json.dumps({'Level': 'Instance', 'Query': query})))
    print('%s wants %d instances for %s' % (request['OriginatorAET'], len(instances), request['TargetAET']))
    return Driver(modality_of(request['TargetAET']), instances)


def size(driver: Driver) -> int:
    """How many steps it will take."""
    return len(driver.instances)


def apply(driver: Driver) -> int:
    """One step. The peer counts it as failed if this is not SUCCESS."""
    try:
        driver.send_next()
    except orthanc.OrthancException as e:
        orthanc.LogError('%s does not take an instance: %s' % (driver.target, e.args[1]))
        return orthanc.ErrorCode.NETWORK_PROTOCOL
    return orthanc.ErrorCode.SUCCESS


def free(driver: Driver) -> None:
    """The end, also of a request that was given up."""
    print('%d of %d instances sent' % (driver.sent, len(driver.instances)))


orthanc.RegisterMoveCallback2(create, size, apply, free)
