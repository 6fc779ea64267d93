/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/finalize.c - the orderly end: callbacks dropped, threads joined, atexit run
 *
 * The node waits in Finalize and serves what atexit functions ask for on this lane; other
 * threads have their service lanes. How long it waits is the node's decision: it kills.
 */
#include "drivers.h"
#include "host.h"
#include "slow.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void
end_python(struct opb_lane *lane, PyThreadState *python)
{
    struct opb_link *link = opb_link_current(); /* NULL if Load failed early */

    opb_interpreter_set_phase(OPB_INTERPRETER_ENDING);
    if (link != NULL && opb_link_bind(link, lane) != OPB_OK) {
        opb_host_say("the main lane cannot be used while Python ends");
    }
    opb_slow_end();
    PyEval_RestoreThread(python);
    opb_registrations_clear();
    opb_drivers_clear();
    if (opb_interpreter_was_forked()) {
        opb_prelude_thaw();
    }
    if (Py_FinalizeEx() != 0) {
        opb_host_say("Python could not write all of its output when it ended");
    }
    opb_stacks_end();
    opb_interpreter_set_phase(OPB_INTERPRETER_GONE);
}

void
opb_finalize(struct opb_lane *lane, uint32_t msgid, PyThreadState *python)
{
    if (python != NULL) {
        end_python(lane, python);
        opb_host_check_child();
    }
    (void)fflush(NULL);
    if (opb_calls_answer_nil(lane, msgid) != OPB_OK) {
        _exit(EXIT_FAILURE); /* the node does not listen any more */
    }
    _exit(EXIT_SUCCESS);
}
