/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/virtual_env.h - Python.VirtualEnv: the environment that the script lives in
 *
 * Here:      whether a folder is a virtual environment of this Python. Used by main.c,
 * before there is Python, and by interpreter.c. Elsewhere: what Python makes of it (its own
 * getpath, which finds pyvenv.cfg beside the program).
 */
#ifndef OPB_HOST_VIRTUAL_ENV_H
#define OPB_HOST_VIRTUAL_ENV_H

#include "protocol/status.h"

#include <stddef.h>

/* Once, before Python starts. Looks at nothing yet. OPB_NO_MEMORY at worst. */
OPB_MUST_CHECK enum opb_status opb_virtual_env_set(const char *path);
/* OPB_REFUSED: text says what is wrong with the environment and how to mend it. Without an
 * environment all is well. */
OPB_MUST_CHECK enum opb_status opb_virtual_env_check(char *text, size_t capacity);
/* The python program of the environment, or the one this host was built for. Lent. */
const char *opb_virtual_env_program(void);

#endif
