/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/recycle.h - a new host before the old one has become too large or too old
 *
 * The supervisor thread's.
 */
#ifndef OPB_RECYCLE_H
#define OPB_RECYCLE_H

#include "pool.h"

struct opb_recycler;

struct opb_recycler *opb_recycler_new(void); /* NULL without memory */
void opb_recycler_free(struct opb_recycler *recycler);
/* If it is time: looks at the hosts that serve, and asks for a reload if need be. */
void opb_recycler_look(struct opb_recycler *recycler, struct opb_pool *pool);
/* When it is time; OPB_FOREVER if there are no limits. */
uint64_t opb_recycler_next_ms(const struct opb_recycler *recycler,
                              const struct opb_config *config);
/* The limit of one host: of the configured one, 90 to 110 percent, each as likely. Below 10
 * it is the configured one; 0, none, stays 0. On any thread. */
uint64_t opb_recycler_draw(uint64_t limit);

#endif
