/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/metrics.c - the bridge's part of Orthanc's metrics
 *
 * Here:      collecting the values when Orthanc asks for them, and giving them to it.
 * Elsewhere: counting (call_stats.c, history.c, ...); the same in more detail, with texts
 *            (node_status.c).
 *
 * Orthanc's metrics have no labels: so the kind of callback is part of the name. Kinds
 * appear with their first call.
 */
#include "plugin/metrics.h"

#include "plugin/call_stats.h"
#include "plugin/events.h"
#include "plugin/history.h"
#include "plugin/invocation.h"
#include "plugin/kinds.h"
#include "plugin/pool_state.h"
#include "plugin/process.h"
#include "plugin/session.h"
#include "plugin/status_json.h"
#include "protocol/sockets.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define PREFIX         "python_bridge_"
#define NAME_BYTES     128u /* of a name; the prefix comes on top */
#define KIND_BYTES     64u
#define INTEGERS_SINCE 1012001u /* 1.12.1 */

static void
set_real(const struct opb_node *node, const char *name, double value)
{
    char full[sizeof(PREFIX) + NAME_BYTES];

    (void)snprintf(full, sizeof(full), PREFIX "%s", name); /* fits */
    OrthancPluginSetMetricsValue(node->context, full, (float)value,
                                 OrthancPluginMetricsType_Default);
}

/* Older servers have floating-point numbers of 24 bits only. */
static void
set_count(const struct opb_node *node, const char *name, uint64_t value)
{
#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 1)
    char full[sizeof(PREFIX) + NAME_BYTES];

    if (opb_orthanc_version(node->context->orthancVersion) >= INTEGERS_SINCE) {
        (void)snprintf(full, sizeof(full), PREFIX "%s", name); /* fits */
        OrthancPluginSetMetricsIntegerValue(node->context, full, (int64_t)value,
                                            OrthancPluginMetricsType_Default);
        return;
    }
#endif
    set_real(node, name, (double)value);
}

/* "StoredInstance" becomes "stored_instance_". */
static void
make_prefix(char out[KIND_BYTES], const char *kind)
{
    size_t bytes = 0;

    for (const char *c = kind; *c != '\0' && bytes + 3 < KIND_BYTES; c++) {
        if (isupper((unsigned char)*c) && c != kind) {
            out[bytes++] = '_';
        }
        out[bytes++] = (char)tolower((unsigned char)*c);
    }
    out[bytes++] = '_';
    out[bytes] = '\0';
}

static void
set_calls(const struct opb_node *node, const char *prefix,
          const struct opb_call_summary *summary)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"calls_total", summary->calls},
                  {"errors_total", summary->errors},
                  {"late_total", summary->late},
                  {"died_total", summary->died},
                  {"no_host_total", summary->no_host}};
    const struct {
        const char *name;
        uint64_t us;
    } times[] = {{"latency_p50_seconds", summary->recent.p50_us},
                 {"latency_p95_seconds", summary->recent.p95_us},
                 {"latency_p99_seconds", summary->recent.p99_us},
                 {"latency_seconds_total", summary->total_us}};
    char name[NAME_BYTES];

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", prefix, counts[i].name); /* fits */
        set_count(node, name, counts[i].value);
    }
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        (void)snprintf(name, sizeof(name), "%s%s", prefix, times[i].name); /* fits */
        set_real(node, name, (double)times[i].us / 1e6);
    }
}

static void
refresh_calls(struct opb_node *node)
{
    uint64_t now_ms = opb_clock_ms();
    struct opb_call_summary summary;
    struct opb_call_sum *all;
    struct opb_call_sum *one;
    char prefix[KIND_BYTES];

    if (opb_call_sum_new(&all) != OPB_OK) {
        return; /* the values before stay */
    }
    if (opb_call_sum_new(&one) != OPB_OK) {
        opb_call_sum_free(all);
        return;
    }
    for (int i = 0; i < OPB_CALL_COUNT; i++) {
        enum opb_call_index kind = (enum opb_call_index)i;
        const struct opb_call_stat *stat = opb_call_stats_kind(node->call_stats, kind);

        opb_call_sum_clear(one);
        opb_call_sum_add(one, stat, now_ms);
        opb_call_sum_add(all, stat, now_ms);
        opb_call_sum_end(one, &summary);
        if (summary.calls > 0) {
            make_prefix(prefix, opb_call_name(kind));
            set_calls(node, prefix, &summary);
        }
    }
    opb_call_sum_end(all, &summary);
    set_calls(node, "", &summary);
    opb_call_sum_free(one);
    opb_call_sum_free(all);
}

struct hosts {
    uint64_t serving_count;
    uint64_t other_count;
    uint64_t running_count;
    struct opb_process_memory memory;
};

/* An opb_hosts_each() function. */
static void
count_host(void *context, struct opb_session *session, const char *state)
{
    struct hosts *hosts = context;
    struct opb_process_memory memory;
    struct opb_session_look look;

    opb_session_look_at(session, &look);
    (void)opb_process_memory(opb_session_pid(session), &memory); /* zeros, then */
    hosts->running_count += look.running_count;
    hosts->memory.pss_kib += memory.pss_kib;
    hosts->memory.rss_kib += memory.rss_kib;
    if (strcmp(state, OPB_HOST_SERVING) == 0) {
        hosts->serving_count++;
    }
    else {
        hosts->other_count++;
    }
}

static void
refresh_hosts(struct opb_node *node)
{
    struct hosts hosts = {.serving_count = 0};
    uint64_t generation;

    opb_hosts_each(node, count_host, &hosts);
    pthread_mutex_lock(&node->pool->lock);
    generation = node->pool->generation;
    pthread_mutex_unlock(&node->pool->lock);
    set_count(node, "hosts", hosts.serving_count);
    set_count(node, "hosts_other", hosts.other_count);
    set_count(node, "memory_pss_bytes", hosts.memory.pss_kib * 1024u);
    set_count(node, "memory_rss_bytes", hosts.memory.rss_kib * 1024u);
    set_count(node, "calls_running", hosts.running_count);
    set_count(node, "calls_waiting", atomic_load(&node->waiting_count));
    set_count(node, "generation", generation);
}

static void
refresh_events(struct opb_node *node)
{
    struct opb_event_counts counts;

    opb_events_count(node->events, &counts);
    set_count(node, "events_queued", counts.queued);
    set_count(node, "events_lost_total", counts.lost);
    set_count(node, "events_set_aside_total", counts.set_aside);
}

/* Calls SDK functions, under a lock of Orthanc's that they do not need. */
static void
refresh(void)
{
    struct opb_node *node = opb_node_current();

    if (node == NULL || node->pool == NULL || node->events == NULL) {
        return;
    }
    refresh_calls(node);
    refresh_hosts(node);
    refresh_events(node);
    set_count(node, "restarts_total", opb_history_count(node->history, OPB_HISTORY_DEATHS));
    set_count(node, "exceptions_total",
              opb_history_count(node->history, OPB_HISTORY_EXCEPTIONS));
    set_real(node, "uptime_seconds", (double)(opb_clock_ms() - node->born_ms) / 1000.0);
}

void
opb_metrics_register(struct opb_node *node)
{
    OrthancPluginRegisterRefreshMetricsCallback(node->context, refresh);
}
