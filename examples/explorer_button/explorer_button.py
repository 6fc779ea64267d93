# SPDX-License-Identifier: GPL-3.0-or-later
"""A button of the script's own in Orthanc Explorer, on the page of a study."""

import json
from typing import Any

import orthanc

BUTTON = '''
$('#study').live('pagebeforecreate', function() {
  $('<a>').attr('data-role', 'button').attr('href', '#').attr('data-icon', 'info')
    .text('How many instances').insertBefore($('#study-delete').parent())
    .click(function(e) {
      e.preventDefault();
      $.get('../count/' + $.mobile.pageData.uuid, function(answer) { alert(answer.Instances); });
    });
});
'''


def on_count(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
    """What the button shows."""
    statistics = json.loads(orthanc.RestApiGet('/studies/%s/statistics' % request['groups'][0]))
    output.AnswerBuffer(json.dumps({'Instances': statistics['CountInstances']}), 'application/json')


if hasattr(orthanc, 'ExtendOrthancExplorer2'):      # from Orthanc 1.12.4 on
    orthanc.ExtendOrthancExplorer2('python', BUTTON)
else:
    orthanc.ExtendOrthancExplorer(BUTTON)
orthanc.RegisterRestCallback('/count/(.*)', on_count)
