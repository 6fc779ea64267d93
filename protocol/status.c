/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/status.c - texts of enum opb_status
 *
 * Called by: whoever logs. Touches nothing.
 */
#include "protocol/status.h"

const char *
opb_status_text(enum opb_status status)
{
    switch (status) {
    case OPB_OK:
        return "success";
    case OPB_NO_MEMORY:
        return "out of memory";
    case OPB_BAD_FRAME:
        return "the peer sent what the protocol does not allow";
    case OPB_LATE:
        return "the deadline has passed";
    case OPB_GONE:
        return "the peer is gone";
    case OPB_SYSTEM:
        return "a system call failed";
    case OPB_TOO_LARGE:
        return "a limit of the protocol was exceeded";
    case OPB_REFUSED:
        return "the peer refused";
    case OPB_VERSION:
        return "the peer speaks another version of the protocol";
    case OPB_STOPPING:
        return "shutting down";
    }
    return "unknown status";
}
