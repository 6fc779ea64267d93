# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /report.xls answers the list of studies as a Microsoft Excel workbook."""

import io
import json
from typing import Any

import orthanc
import xlwt


def report(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """One sheet, one row per study: patient ID, patient name, study description."""
    if request['method'] != 'GET':
        output.SendMethodNotAllowed('GET')
        return
    workbook = xlwt.Workbook()
    sheet = workbook.add_sheet('Studies')
    for row, study in enumerate(json.loads(orthanc.RestApiGet('/studies?expand'))):
        patient = study['PatientMainDicomTags']
        sheet.write(row, 0, patient.get('PatientID'))
        sheet.write(row, 1, patient.get('PatientName'))
        sheet.write(row, 2, study['MainDicomTags'].get('StudyDescription'))
    content = io.BytesIO()
    workbook.save(content)
    output.AnswerBuffer(content.getvalue(), 'application/vnd.ms-excel')


orthanc.RegisterRestCallback('/report.xls', report)
