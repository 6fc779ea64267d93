/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/options.h - the command line of orthanc-python-worker */
#ifndef OPB_SUPERVISOR_OPTIONS_H
#define OPB_SUPERVISOR_OPTIONS_H

#include "worker/supervisor/pool.h"

/* Fills *options from the command line, and from the file that it names. Returns -1 to go
 * on, else an exit code. */
int opb_options_parse(int argc, char **argv, struct opb_pool_options *options);
/* Says what is wrong with the call to who made it. Returns the exit code. */
int opb_options_complain(const struct opb_pool_options *options, const char *text,
                         const char *detail);

#endif
