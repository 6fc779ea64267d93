/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/losses.h - change events that found no room in the queue
 *
 * Here:      counting them, and when that is to be said: at the first of each time that
 *            there is no room, then at each ten thousandth.
 * Elsewhere: the queue (events.c), whose lock guards this, and which says it.
 */
#ifndef OPB_LOSSES_H
#define OPB_LOSSES_H

#include <stdbool.h>
#include <stdint.h>

struct opb_losses {
    uint64_t count;  /* since the start */
    uint64_t before; /* of these: when there was room the last time */
};

/* One more. True: that is to be said. */
bool opb_losses_add(struct opb_losses *losses);
/* There is room again. Says how many were lost since it was called last. */
uint64_t opb_losses_end(struct opb_losses *losses);

#endif
