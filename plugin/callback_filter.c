/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_filter.c - the filter of incoming HTTP requests
 *
 * Orthanc calls it for every request from outside, also while the script has no filter:
 * then it costs one atomic load and, while late routes are registered, a wait at the gate.
 * It fails closed: without an answer of the script a request is refused (policy.h).
 */
#include "call.h"
#include "config.h"
#include "late_routes.h"
#include "log.h"
#include "policy.h"
#include "request_pack.h"
#include "routes.h"

#include <stdio.h>

#define FILTER_ACCEPT 1
#define FILTER_REFUSE 0
#define FILTER_ERROR  (-1)
#define WHAT_BYTES    256u

struct filter {
    OrthancPluginHttpMethod method;
    const char *uri;
    const char *ip;
    uint32_t header_count;
    const char *const *header_keys;
    const char *const *header_values;
    uint32_t get_count;
    const char *const *get_keys;
    const char *const *get_values;
    bool is_accepted;
};

static void
filter_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct filter *filter = context;

    (void)session; /* a filter is lent nothing */
    opb_message_begin_request(message, OPB_CALL_HTTP_FILTER_INDEX, 5);
    opb_pack_cstr(message, filter->uri);
    opb_pack_int(message, (int64_t)filter->method);
    opb_pack_cstr(message, filter->ip != NULL ? filter->ip : "");
    opb_pack_text_map(message, filter->header_count, filter->header_keys,
                      filter->header_values);
    opb_pack_text_map(message, filter->get_count, filter->get_keys, filter->get_values);
}

static void
filter_result(struct opb_reader *reader, void *context)
{
    struct filter *filter = context;

    filter->is_accepted = opb_read_bool(reader);
}

static int32_t
filter_end(struct opb_node *node, const struct filter *filter, enum opb_outcome outcome)
{
    char subject[WHAT_BYTES];

    switch (outcome) {
    case OPB_CALL_DONE:
        return filter->is_accepted ? FILTER_ACCEPT : FILTER_REFUSE;
    case OPB_CALL_ENCODING:
        opb_log_error(
            "Exception in the Python incoming-http-request filter: Internal error");
        return FILTER_ERROR;
    case OPB_CALL_RAISED:
    case OPB_CALL_FAILED:
        return FILTER_ERROR;
    case OPB_CALL_ABSENT:
        return FILTER_ACCEPT;
    case OPB_CALL_DIED:
    case OPB_CALL_LATE:
    case OPB_CALL_NO_HOST:
        break; /* the call has logged why there is no answer */
    }
    (void)snprintf(subject, sizeof(subject), "The HTTP request for %s", filter->uri);
    return opb_policy_lets_in(node, OPB_CALL_HTTP_FILTER_INDEX, subject) ? FILTER_ACCEPT
                                                                         : FILTER_REFUSE;
}

int32_t
opb_callback_filter(OrthancPluginHttpMethod method, const char *uri, const char *ip,
                    uint32_t header_count, const char *const *header_keys,
                    const char *const *header_values, uint32_t get_count,
                    const char *const *get_keys, const char *const *get_values)
{
    struct opb_node *node = opb_node_current();
    struct filter filter = {.method = method,
                            .uri = uri,
                            .ip = ip,
                            .header_count = header_count,
                            .header_keys = header_keys,
                            .header_values = header_values,
                            .get_count = get_count,
                            .get_keys = get_keys,
                            .get_values = get_values};
    struct opb_call_io io = {.pack = filter_pack,
                             .result = filter_result,
                             .context = &filter,
                             .is_of_script = true};
    char what[WHAT_BYTES];
    int32_t answer;

    if (node == NULL) {
        return FILTER_ACCEPT; /* there is no script that could object */
    }
    answer = FILTER_ACCEPT;
    if (opb_routes_has(node->routes, OPB_CALL_HTTP_FILTER_INDEX)) {
        (void)snprintf(what, sizeof(what), "incoming-http-request filter for %s %s",
                       opb_method_text(method), uri);
        answer = filter_end(
            node, &filter,
            opb_call_run(node, OPB_CALL_HTTP_FILTER_INDEX, &io, what, OPB_FOREVER));
    }
    if (answer == FILTER_ACCEPT) {
        opb_late_gate(opb_routes_late(node->routes));
    }
    return answer;
}
