/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/call_stats.h - how many calls there were, what became of them, how long they took
 *
 * Here:      counting for each kind of callback and each REST route, and summing up.
 * Elsewhere: who counts (call.c), who shows it (node_status.c, metrics.c).
 *
 * Counting takes no lock and allocates nothing, but for the first call of a route. Times
 * are kept in classes that are an eighth of a power of two wide, so that a quantile is
 * right to within 1/16. Any thread.
 */
#ifndef OPB_CALL_STATS_H
#define OPB_CALL_STATS_H

#include "call.h"

#define OPB_MOST_COUNTED_ROUTES 200u /* 7 KB each; the status shows no more */

struct opb_call_stats; /* of a node */
struct opb_call_stat;  /* of one kind, or one route */

OPB_MUST_CHECK enum opb_status opb_call_stats_new(struct opb_call_stats **out);
void opb_call_stats_free(struct opb_call_stats *stats); /* NULL is fine */

/* Lends, for as long as the node lives. */
struct opb_call_stat *opb_call_stats_kind(struct opb_call_stats *stats,
                                          enum opb_call_index kind);
/* entry: less than OPB_MAX_ROUTES. NULL without memory, and for all others once so many
 * routes have been called: those are in the sum of their kind. */
struct opb_call_stat *opb_call_stats_route(struct opb_call_stats *stats, uint32_t entry);
/* The same, and NULL if nothing of it was counted yet. */
struct opb_call_stat *opb_call_stats_find_route(struct opb_call_stats *stats,
                                                uint32_t entry);

/* A call has ended after taken_us. now_ms is opb_clock_ms(). stat may be NULL. */
void opb_call_stat_count(struct opb_call_stat *stat, enum opb_outcome outcome,
                         uint64_t taken_us, uint64_t now_ms);

/* Times are in microseconds, and 0 where nothing was counted. */
struct opb_quantiles {
    uint64_t count; /* of calls that they are of */
    uint64_t p50_us;
    uint64_t p95_us;
    uint64_t p99_us;
};
struct opb_call_summary {
    uint64_t calls;
    uint64_t errors;  /* raised, or could not be run */
    uint64_t late;    /* past their limit */
    uint64_t died;    /* their host did */
    uint64_t no_host; /* none was to be had */
    uint64_t total_us;
    uint64_t max_us;
    uint64_t last_minute;        /* calls that ended in the last 60 s */
    struct opb_quantiles all;    /* since the start */
    struct opb_quantiles recent; /* of the last one to two minutes */
};
/* Adds what was counted to *sum, but for quantiles, which are of classes that are added up:
 * so several of them are one, with opb_call_sum_end(). */
struct opb_call_sum;
OPB_MUST_CHECK enum opb_status opb_call_sum_new(struct opb_call_sum **out);
void opb_call_sum_free(struct opb_call_sum *sum); /* NULL is fine */
void opb_call_sum_clear(struct opb_call_sum *sum);
void opb_call_sum_add(struct opb_call_sum *sum, const struct opb_call_stat *stat,
                      uint64_t now_ms);
void opb_call_sum_end(const struct opb_call_sum *sum, struct opb_call_summary *out);

/* Calls in one minute, as calls in a second; the node may be younger than that. */
double opb_call_rate(const struct opb_call_summary *summary, uint64_t age_ms);

/* Monotonic. */
uint64_t opb_clock_us(void);

#endif
