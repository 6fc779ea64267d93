/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_zygote.h - a zygote without Python, as FAKE_ZYGOTE in the environment
 * says
 *
 * good      forks hosts
 * silent    is ready, and then says nothing more
 * garbage   is ready, and answers a request with something else
 * stranger  names its own parent's parent as the host, which is the test
 * dies      is ready, and ends when it is asked
 * born      the same, after it has forked a host and told its process id
 * refuses   says that it cannot fork
 * fails     cannot import the module "bad"
 * quits     ends while it imports that module
 */
#ifndef OPB_FAKE_ZYGOTE_H
#define OPB_FAKE_ZYGOTE_H

/* Returns in new hosts, whose control socket is fd. */
void fake_zygote_run(int fd);

#endif
