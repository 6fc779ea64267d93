/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/status.h - what a fallible function of the bridge says
 *
 * Here:      the one status enumeration of all rooms, and its texts.
 * Elsewhere: Orthanc's error codes (plugin/), Python's exceptions (worker/).
 */
#ifndef OPB_STATUS_H
#define OPB_STATUS_H

#define OPB_MUST_CHECK __attribute__((warn_unused_result))
#define OPB_PRINTF(text_index, first_index)                                                \
    __attribute__((__format__(__printf__, text_index, first_index)))

enum opb_status {
    OPB_OK = 0,
    OPB_NO_MEMORY, /* an allocation failed; nothing else changed */
    OPB_BAD_FRAME, /* the peer sent what the protocol does not allow */
    OPB_LATE,      /* the deadline passed */
    OPB_GONE,      /* the peer has closed the connection, or died */
    OPB_SYSTEM,    /* a system call failed; errno says why */
    OPB_TOO_LARGE, /* more bytes, items or levels than a limit allows */
    OPB_REFUSED,   /* the peer understood and said no */
    OPB_VERSION,   /* the peer speaks another version of the protocol */
    OPB_STOPPING   /* this side is shutting down and begins nothing new */
};

/* Lends a short English text ("the peer is gone"). Never NULL; static. */
const char *opb_status_text(enum opb_status status);

#endif
