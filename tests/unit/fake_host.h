/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_host.h - what a test can ask of fake_host.c on a lane
 *
 * Every request has one string and gets one string back, if it is answered at all.
 */
#ifndef OPB_FAKE_HOST_H
#define OPB_FAKE_HOST_H

enum fake_host_method {
    FAKE_ECHO = 1,
    FAKE_EXIT,         /* ends with the exit code in the string */
    FAKE_CRASH,        /* SIGSEGV */
    FAKE_CHILD,        /* starts a child in its process group; answers its pid */
    FAKE_SETSID_CHILD, /* the same in a session of its own */
    FAKE_DAEMON,       /* the same, and its parent ends: it belongs to the supervisor now */
    FAKE_IGNORE_TERM,  /* ignores SIGTERM from now on */
    FAKE_ENV,          /* answers the environment variable of that name */
    FAKE_FDS,          /* answers the open descriptors above 2, "3 5" */
    FAKE_SIGNALS       /* answers the ignored and the blocked signals, as in /proc */
};

#endif
