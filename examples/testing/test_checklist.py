# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of checklist.py on a throw-away Orthanc: run `pytest` in this directory."""

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ['orthanc_python_testing']

FILE = Path(__file__).parent / 'image.dcm'


@pytest.fixture(scope='module')
def orthanc(start_module_orthanc: Any) -> Any:
    """One server for the tests that do not need one of their own."""
    return start_module_orthanc('checklist.py')


def study_of(orthanc: Any, instance: str) -> str:
    """The identifier of the study of an instance."""
    return str(orthanc.get('/instances/%s/study' % instance).json()['ID'])


def test_the_route_names_the_tags_that_are_missing(orthanc: Any) -> None:
    study = study_of(orthanc, orthanc.upload(FILE))
    answer = orthanc.get('/checklist/' + study)
    assert (answer.status_code, answer.headers['Content-Type']) == (200, 'application/json')
    assert answer.json() == ['StudyDate', 'AccessionNumber']


def test_an_unknown_study_is_an_error_with_a_traceback(orthanc: Any) -> None:
    start = len(orthanc.log())
    assert orthanc.get('/checklist/unknown').status_code == 500
    orthanc.wait_for_log('Unknown resource', start=start)


def test_only_get_is_allowed(orthanc: Any) -> None:
    assert orthanc.post('/checklist/x').status_code == 405


def test_a_stable_study_gets_its_metadata(start_orthanc: Any) -> None:
    orthanc = start_orthanc('checklist.py', config={'StableAge': 1})
    study = study_of(orthanc, orthanc.upload(FILE))
    orthanc.wait_for_output('Study %s lacks StudyDate AccessionNumber' % study)
    assert orthanc.get('/studies/%s/metadata/4000' % study).text == 'StudyDate AccessionNumber'
    assert orthanc.errors() == []


def test_an_edited_script_is_loaded_again(start_orthanc: Any, tmp_path: Path) -> None:
    script = tmp_path / 'checklist.py'
    shutil.copy(Path(__file__).parent / 'checklist.py', script)
    orthanc = start_orthanc(script)
    study = study_of(orthanc, orthanc.upload(FILE))
    script.write_text(script.read_text().replace("'AccessionNumber'", "'StudyDescription'"))
    orthanc.reload()
    assert orthanc.get('/checklist/' + study).json() == ['StudyDate', 'StudyDescription']
    assert orthanc.stop() == 0
