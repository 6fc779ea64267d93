/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/policy.c - what the callbacks do when Python could not be asked
 *
 * See policy.h. The rule is to refuse: a filter that was not asked has not accepted.
 */
#include "policy.h"

#include "config.h"
#include "log.h"

#include <inttypes.h>

static void
count(atomic_uint_least64_t *number)
{
    (void)atomic_fetch_add_explicit(number, 1, memory_order_relaxed);
}

void
opb_policy_count_outcome(struct opb_node *node, enum opb_outcome outcome)
{
    switch (outcome) {
    case OPB_CALL_DIED:
        count(&node->counts.died);
        break;
    case OPB_CALL_LATE:
        count(&node->counts.late);
        break;
    case OPB_CALL_NO_HOST:
        count(&node->counts.no_host);
        break;
    case OPB_CALL_DONE:
    case OPB_CALL_RAISED:
    case OPB_CALL_ENCODING:
    case OPB_CALL_FAILED:
    case OPB_CALL_ABSENT:
        break;
    }
}

bool
opb_policy_lets_in(struct opb_node *node, enum opb_call_index kind, const char *subject)
{
    if (node->config->fail_open[kind]) {
        count(&node->counts.let_in);
        opb_log_warning("%s was let in without having been looked at: Python could not be "
                        "asked, and Python.FailOpen says so",
                        subject);
        return true;
    }
    count(&node->counts.refused);
    opb_log_error("%s was refused: Python could not be asked", subject);
    return false;
}

bool
opb_policy_repeats(struct opb_node *node, enum opb_outcome outcome, const char *what,
                   uint32_t *deaths)
{
    if (outcome != OPB_CALL_DIED && outcome != OPB_CALL_LATE) {
        return false;
    }
    if (++*deaths == 1) {
        count(&node->counts.repeated);
        opb_log_warning("The %s is run once more, in the next host", what);
        return true;
    }
    opb_log_error("The %s has ended two hosts, and is not run again", what);
    return false;
}

void
opb_policy_gives_up(struct opb_node *node, const char *what)
{
    count(&node->counts.given_up);
    opb_log_error("The %s is given up, the %" PRIu64 ". since the start", what,
                  (uint64_t)atomic_load(&node->counts.given_up));
}

void
opb_policy_announce(const struct opb_node *node)
{
    const struct opb_config *config = node->config;

    if (config->fail_open[OPB_CALL_HTTP_FILTER_INDEX]) {
        opb_log_warning(
            "Python.FailOpen names HttpFilter: HTTP requests are let in without "
            "the filter of the script while Python cannot be asked");
    }
    if (config->fail_open[OPB_CALL_RECEIVED_INSTANCE_INDEX]) {
        opb_log_warning("Python.FailOpen names ReceivedInstance: instances are stored as "
                        "they were received while Python cannot be asked");
    }
    if (config->fail_open[OPB_CALL_CSTORE_FILTER_INDEX]) {
        opb_log_warning(
            "Python.FailOpen names CStoreFilter: instances that come by C-STORE "
            "are accepted while Python cannot be asked");
    }
}

void
opb_policy_sum_up(struct opb_node *node)
{
    struct opb_counts *counts = &node->counts;
    uint64_t died = atomic_load(&counts->died);
    uint64_t late = atomic_load(&counts->late);
    uint64_t no_host = atomic_load(&counts->no_host);

    if (died + late + no_host == 0) {
        return;
    }
    opb_log_warning(
        "Python calls since the start that failed: %" PRIu64 " as their host died, %" PRIu64
        " took too long, %" PRIu64 " found no host; %" PRIu64 " were repeated, %" PRIu64
        " given up; %" PRIu64 " times was something refused unseen, %" PRIu64
        " times let in",
        died, late, no_host, (uint64_t)atomic_load(&counts->repeated),
        (uint64_t)atomic_load(&counts->given_up), (uint64_t)atomic_load(&counts->refused),
        (uint64_t)atomic_load(&counts->let_in));
}
