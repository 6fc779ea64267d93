/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/zygote.h - what the supervisor and a zygote say to each other
 *
 * Here:      the notes on the zygote's SOCK_SEQPACKET socket; both ends are of one build.
 * Elsewhere: the supervisor's end (supervisor/zygote.c), the zygote's (host/zygote.c).
 * May use:   nothing. Not Python.h, not libuv: it stands between the two.
 */
#ifndef OPB_ZYGOTE_H
#define OPB_ZYGOTE_H

#include <stdint.h>

#define OPB_ZYGOTE_TEXT_BYTES 480u

enum opb_zygote_word {
    /* supervisor -> zygote, with the control socket of the new host. id: the host's */
    OPB_ZYGOTE_FORK = 1,
    /* zygote -> supervisor. number: a log level; text: one line for the node's log */
    OPB_ZYGOTE_LOG,
    /* number: which of the modules is being imported now, from 0; text: its name */
    OPB_ZYGOTE_IMPORTING,
    /* text: why the module cannot be imported; the supervisor ends the zygote then */
    OPB_ZYGOTE_FAILED,
    /* from here on hosts are forked at once */
    OPB_ZYGOTE_READY,
    /* id; number: the process id of the host, before anybody can learn of its death */
    OPB_ZYGOTE_BORN,
    /* id: the host is a child of the supervisor now */
    OPB_ZYGOTE_STARTED,
    /* id; number: errno */
    OPB_ZYGOTE_NOT_STARTED
};

struct opb_zygote_note {
    uint32_t word; /* enum opb_zygote_word */
    uint32_t id;
    int32_t number;
    char text[OPB_ZYGOTE_TEXT_BYTES]; /* ends with NUL */
};

#endif
