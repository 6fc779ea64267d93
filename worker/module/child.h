/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/child.h - a Python that a host, or a child of one, has started afresh
 *
 * Here:      finding the node of the host, by a variable of the environment that names a
 *            file of the host's (worker/host/environment.c).
 * Elsewhere: forked children, which have all of that in their memory (fork.c).
 */
#ifndef OPB_CHILD_H
#define OPB_CHILD_H

#define OPB_CREDENTIALS_VARIABLE "ORTHANC_PYTHON_BRIDGE_CREDENTIALS"
/* Set to anything: this is no child of the host, but a console of an administrator, who has
 * found that file (worker/cli/orthanc_python/console.py). */
#define OPB_CONSOLE_VARIABLE "ORTHANC_PYTHON_BRIDGE_CONSOLE"

/* Opens the link of this process if it is a child of a host, and has none. Whether it could
 * is told by opb_link_current(), and opb_child_failure(). */
void opb_child_attach(void);
/* Lends why it could not, for an exception; "" if nobody says that it is a child. */
const char *opb_child_failure(void);

#endif
