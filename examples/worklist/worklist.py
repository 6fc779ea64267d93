# SPDX-License-Identifier: GPL-3.0-or-later
"""A worklist server: what is planned stands in JSON files of one folder.

"Worklists": {"Folder": ...} of the configuration names it; a relative path starts at the script.
A file holds the tags of one entry, as /tools/create-dicom takes them. To try it with DCMTK:

    findscu 127.0.0.1 4242 -W -k "ScheduledProcedureStepSequence[0].Modality=MR" -k PatientName
"""

import glob
import json
import os

import orthanc

SETTINGS = json.loads(orthanc.GetConfiguration()).get('Worklists', {})
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), SETTINGS.get('Folder', 'entries'))


def on_worklist(answers: orthanc.WorklistAnswers, query: orthanc.WorklistQuery,
                issuer_aet: str, called_aet: str) -> None:
    """Adds what matches. A file that cannot be read is reported, and left out."""
    for path in sorted(glob.glob(os.path.join(glob.escape(FOLDER), '*.json'))):
        try:
            with open(path, encoding='utf-8') as f:
                entry = orthanc.CreateDicom(f.read(), None, orthanc.CreateDicomFlags.NONE)
        except (OSError, orthanc.OrthancException) as e:
            orthanc.LogError('Worklist entry %s: %s' % (path, e))
            continue
        if query.WorklistIsMatch(entry):
            answers.WorklistAddAnswer(query, entry)


orthanc.RegisterWorklistCallback(on_worklist)
