/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/call_stats.c - how many calls there were, what became of them, how long they took
 *
 * See call_stats.h. What is about a time that passes is kept in cells that name the time
 * that they are of: who finds an older one there begins it anew, so that nobody has to
 * clear them. A cell is one word, changed at once.
 */
#include "plugin/call_stats.h"

#include "plugin/routes.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PARTS_BITS   3u /* classes of a power of two: 8 */
#define PARTS        (1u << PARTS_BITS)
#define LONGEST_BITS 37u /* in microseconds: 38 hours; what takes longer is in the last */
#define CLASSES      (PARTS + (LONGEST_BITS - PARTS_BITS) * PARTS)
#define SECONDS      64u /* of the rate; a power of two, and more than 60 */
#define MINUTES      2u  /* of the recent times */
#define MINUTE_MS    60000u

typedef _Atomic(uint64_t) counter; /* a cell: when << 32 | count */

struct opb_call_stat {
    counter outcomes[OPB_CALL_NO_HOST + 1];
    counter total_us;
    counter max_us;
    counter seconds[SECONDS];
    counter all[CLASSES];
    counter recent[MINUTES][CLASSES];
};

struct opb_call_stats {
    struct opb_call_stat kinds[OPB_CALL_COUNT];
    _Atomic(struct opb_call_stat *) routes[OPB_MAX_ROUTES];
    _Atomic(uint32_t) route_count; /* of those; a few more where threads race */
};

struct opb_call_sum {
    struct opb_call_summary summary; /* without quantiles */
    uint64_t all[CLASSES];
    uint64_t recent[CLASSES];
};

uint64_t
opb_clock_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* always works */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

enum opb_status
opb_call_stats_new(struct opb_call_stats **out)
{
    *out = calloc(1, sizeof(**out));
    return *out != NULL ? OPB_OK : OPB_NO_MEMORY;
}

void
opb_call_stats_free(struct opb_call_stats *stats)
{
    if (stats == NULL) {
        return;
    }
    for (uint32_t i = 0; i < OPB_MAX_ROUTES; i++) {
        free(atomic_load(&stats->routes[i]));
    }
    free(stats);
}

struct opb_call_stat *
opb_call_stats_kind(struct opb_call_stats *stats, enum opb_call_index kind)
{
    return &stats->kinds[kind];
}

struct opb_call_stat *
opb_call_stats_find_route(struct opb_call_stats *stats, uint32_t entry)
{
    return atomic_load_explicit(&stats->routes[entry], memory_order_acquire);
}

struct opb_call_stat *
opb_call_stats_route(struct opb_call_stats *stats, uint32_t entry)
{
    struct opb_call_stat *found = opb_call_stats_find_route(stats, entry);
    struct opb_call_stat *made;

    if (found != NULL) {
        return found;
    }
    if (atomic_load_explicit(&stats->route_count, memory_order_relaxed) >=
        OPB_MOST_COUNTED_ROUTES) {
        return NULL;
    }
    made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&stats->routes[entry], &found, made)) {
        free(made); /* another thread was first */
        return found;
    }
    (void)atomic_fetch_add_explicit(&stats->route_count, 1, memory_order_relaxed);
    return made;
}

/* The class of a time: below PARTS one for each number, then PARTS for each power of two.
 */
static uint32_t
class_of(uint64_t us)
{
    uint32_t bits;

    if (us < PARTS) {
        return (uint32_t)us;
    }
    bits = 63u - (uint32_t)__builtin_clzll(us); /* at least PARTS_BITS */
    if (bits >= LONGEST_BITS) {
        return CLASSES - 1;
    }
    return PARTS + (bits - PARTS_BITS) * PARTS +
           (uint32_t)((us >> (bits - PARTS_BITS)) & (PARTS - 1));
}

/* The middle of a class. */
static uint64_t
time_of(uint32_t class)
{
    uint32_t shift;
    uint64_t first;

    if (class < 2 * PARTS) {
        return class;
    }
    shift = class / PARTS - 1;
    first = (uint64_t)(PARTS + class % PARTS) << shift;
    return first + (((uint64_t)1 << shift) - 1) / 2;
}

static void
add(counter *number, uint64_t amount)
{
    (void)atomic_fetch_add_explicit(number, amount, memory_order_relaxed);
}

/* One more in a cell that is about a certain second or minute. */
static void
add_at(counter *cell, uint64_t when)
{
    uint64_t name = (when & UINT32_MAX) << 32;
    uint64_t before = atomic_load_explicit(cell, memory_order_relaxed);
    uint64_t after;

    do {
        after = (before & ~(uint64_t)UINT32_MAX) == name ? before + 1 : name + 1;
    } while (!atomic_compare_exchange_weak_explicit(
        cell, &before, after, memory_order_relaxed, memory_order_relaxed));
}

/* What was counted then; 0 if the cell is about another time. */
static uint64_t
count_at(const counter *cell, uint64_t when)
{
    uint64_t value = atomic_load_explicit(cell, memory_order_relaxed);

    return value >> 32 == (when & UINT32_MAX) ? value & UINT32_MAX : 0;
}

void
opb_call_stat_count(struct opb_call_stat *stat, enum opb_outcome outcome, uint64_t taken_us,
                    uint64_t now_ms)
{
    uint64_t second = now_ms / 1000u;
    uint64_t minute = now_ms / MINUTE_MS;
    uint32_t class = class_of(taken_us);
    uint64_t max_us;

    if (stat == NULL) {
        return;
    }
    add(&stat->outcomes[outcome], 1);
    add(&stat->total_us, taken_us);
    add(&stat->all[class], 1);
    add_at(&stat->seconds[second % SECONDS], second);
    add_at(&stat->recent[minute % MINUTES][class], minute);
    max_us = atomic_load_explicit(&stat->max_us, memory_order_relaxed);
    while (taken_us > max_us && !atomic_compare_exchange_weak_explicit(
                                    &stat->max_us, &max_us, taken_us, memory_order_relaxed,
                                    memory_order_relaxed)) {
    }
}

enum opb_status
opb_call_sum_new(struct opb_call_sum **out)
{
    *out = calloc(1, sizeof(**out));
    return *out != NULL ? OPB_OK : OPB_NO_MEMORY;
}

void
opb_call_sum_free(struct opb_call_sum *sum)
{
    free(sum);
}

void
opb_call_sum_clear(struct opb_call_sum *sum)
{
    memset(sum, 0, sizeof(*sum));
}

static uint64_t
read_outcome(const struct opb_call_stat *stat, enum opb_outcome outcome)
{
    return atomic_load_explicit(&stat->outcomes[outcome], memory_order_relaxed);
}

void
opb_call_sum_add(struct opb_call_sum *sum, const struct opb_call_stat *stat,
                 uint64_t now_ms)
{
    struct opb_call_summary *summary = &sum->summary;
    uint64_t second = now_ms / 1000u;
    uint64_t minute = now_ms / MINUTE_MS;
    uint64_t max_us = atomic_load_explicit(&stat->max_us, memory_order_relaxed);

    for (uint32_t i = 0; i <= OPB_CALL_NO_HOST; i++) {
        summary->calls += read_outcome(stat, (enum opb_outcome)i);
    }
    summary->errors += read_outcome(stat, OPB_CALL_RAISED) +
                       read_outcome(stat, OPB_CALL_ENCODING) +
                       read_outcome(stat, OPB_CALL_FAILED);
    summary->late += read_outcome(stat, OPB_CALL_LATE);
    summary->died += read_outcome(stat, OPB_CALL_DIED);
    summary->no_host += read_outcome(stat, OPB_CALL_NO_HOST);
    summary->total_us += atomic_load_explicit(&stat->total_us, memory_order_relaxed);
    summary->max_us = max_us > summary->max_us ? max_us : summary->max_us;
    for (uint64_t i = 0; i < 60 && i <= second; i++) {
        summary->last_minute +=
            count_at(&stat->seconds[(second - i) % SECONDS], second - i);
    }
    for (uint32_t i = 0; i < CLASSES; i++) {
        sum->all[i] += atomic_load_explicit(&stat->all[i], memory_order_relaxed);
        for (uint64_t k = 0; k < MINUTES && k <= minute; k++) {
            sum->recent[i] +=
                count_at(&stat->recent[(minute - k) % MINUTES][i], minute - k);
        }
    }
}

/* The smallest time that permille of 1000 calls have not exceeded. */
static uint64_t
quantile(const uint64_t classes[CLASSES], uint64_t count, uint32_t permille)
{
    uint64_t rank = (count * permille + 999u) / 1000u; /* from 1 */
    uint64_t seen = 0;

    for (uint32_t i = 0; i < CLASSES && count > 0; i++) {
        seen += classes[i];
        if (seen >= rank) {
            return time_of(i);
        }
    }
    return 0;
}

static void
find_quantiles(const uint64_t classes[CLASSES], uint64_t max_us, struct opb_quantiles *out)
{
    uint64_t *found[] = {&out->p50_us, &out->p95_us, &out->p99_us};
    const uint32_t permille[] = {500, 950, 990};

    out->count = 0;
    for (uint32_t i = 0; i < CLASSES; i++) {
        out->count += classes[i];
    }
    for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++) {
        *found[i] = quantile(classes, out->count, permille[i]);
        if (*found[i] > max_us) { /* the middle of its class is above it */
            *found[i] = max_us;
        }
    }
}

void
opb_call_sum_end(const struct opb_call_sum *sum, struct opb_call_summary *out)
{
    *out = sum->summary;
    find_quantiles(sum->all, out->max_us, &out->all);
    find_quantiles(sum->recent, out->max_us, &out->recent);
}

double
opb_call_rate(const struct opb_call_summary *summary, uint64_t age_ms)
{
    double seconds = age_ms >= MINUTE_MS ? 60.0
                     : age_ms < 1000u    ? 1.0
                                         : (double)age_ms / 1000.0;

    return (double)summary->last_minute / seconds;
}
