/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/losses.c - change events that found no room in the queue: see losses.h */
#include "opb_plugin.h"

#include "losses.h"

#define SAID_EVERY 10000u

bool
opb_losses_add(struct opb_losses *losses)
{
    const uint64_t meanwhile = losses->count - losses->before;

    losses->count++;
    return meanwhile % SAID_EVERY == 0;
}

uint64_t
opb_losses_end(struct opb_losses *losses)
{
    const uint64_t meanwhile = losses->count - losses->before;

    losses->before = losses->count;
    return meanwhile;
}
