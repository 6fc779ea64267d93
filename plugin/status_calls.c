/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/status_calls.c - the part of the status about calls, by kind and by REST route
 *
 * Here:      what was counted (call_stats.c), in JSON.
 */
#include "plugin/status_json.h"

#include "plugin/call_stats.h"
#include "plugin/kinds.h"
#include "plugin/routes.h"
#include "protocol/sockets.h"

static void
set_quantiles(json_t *object, const struct opb_quantiles *quantiles)
{
    opb_json_set_time(object, "P50", quantiles->p50_us);
    opb_json_set_time(object, "P95", quantiles->p95_us);
    opb_json_set_time(object, "P99", quantiles->p99_us);
}

/* Adds to object. */
static void
describe(json_t *object, const struct opb_call_summary *summary,
         const struct opb_node *node)
{
    json_t *recent = json_object();

    opb_json_set_count(object, "Calls", summary->calls);
    opb_json_set_count(object, "Errors", summary->errors);
    opb_json_set_count(object, "Late", summary->late);
    opb_json_set_count(object, "Died", summary->died);
    opb_json_set_count(object, "NoHost", summary->no_host);
    opb_json_set(object, "Rate",
                 json_real(opb_call_rate(summary, opb_clock_ms() - node->born_ms)));
    opb_json_set_time(object, "Mean",
                      summary->calls > 0 ? summary->total_us / summary->calls : 0);
    opb_json_set_time(object, "Max", summary->max_us);
    set_quantiles(object, &summary->all);
    opb_json_set_count(recent, "Calls", summary->recent.count);
    set_quantiles(recent, &summary->recent);
    opb_json_set(object, "Recent", recent);
}

json_t *
opb_status_callbacks(struct opb_node *node)
{
    uint64_t now_ms = opb_clock_ms();
    struct opb_call_summary summary;
    struct opb_call_sum *sum;
    json_t *object = json_object();

    if (opb_call_sum_new(&sum) != OPB_OK) {
        return object;
    }
    for (int i = 0; i < OPB_CALL_COUNT; i++) {
        enum opb_call_index kind = (enum opb_call_index)i;
        json_t *one;

        opb_call_sum_clear(sum);
        opb_call_sum_add(sum, opb_call_stats_kind(node->call_stats, kind), now_ms);
        opb_call_sum_end(sum, &summary);
        if (summary.calls > 0) {
            one = json_object();
            describe(one, &summary, node);
            opb_json_set(object, opb_call_name(kind), one);
        }
    }
    opb_call_sum_free(sum);
    return object;
}

json_t *
opb_status_routes(struct opb_node *node)
{
    uint64_t now_ms = opb_clock_ms();
    struct opb_call_summary summary;
    struct opb_call_sum *sum;
    json_t *array = json_array();

    if (opb_call_sum_new(&sum) != OPB_OK) {
        return array;
    }
    for (uint32_t i = 0; i < OPB_MAX_ROUTES; i++) {
        const struct opb_call_stat *stat = opb_call_stats_find_route(node->call_stats, i);
        json_t *one;

        if (stat == NULL) {
            continue;
        }
        opb_call_sum_clear(sum);
        opb_call_sum_add(sum, stat, now_ms);
        opb_call_sum_end(sum, &summary);
        if (summary.calls > 0) {
            one = json_object();
            opb_json_set(one, "Pattern",
                         opb_json_text(opb_routes_pattern(node->routes, i)));
            describe(one, &summary, node);
            (void)json_array_append_new(array, one); /* one less, then */
        }
    }
    opb_call_sum_free(sum);
    return array;
}
