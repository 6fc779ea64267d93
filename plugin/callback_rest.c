/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_rest.c - REST requests on routes of the script
 *
 * Here:      the call's arguments, and what the client gets when Python cannot answer.
 * Elsewhere: which route it is (routes.c), running it (call.c), the script's own answers
 *            (the generated dispatch of RestOutput).
 */
#include "call.h"
#include "call_stats.h"
#include "config.h"
#include "handles.h"
#include "late_routes.h"
#include "request_pack.h"
#include "routes.h"

#include <stdio.h>
#include <string.h>

#define WHAT_BYTES 256u

struct rest {
    struct opb_node *node;
    uint32_t entry;
    OrthancPluginRestOutput *output;
    const char *url;
    const OrthancPluginHttpRequest *request;
    uint32_t route;    /* the host's number */
    bool is_answering; /* an answer was begun */
    uint64_t handle;
};

static bool
rest_check(struct opb_session *session, void *context)
{
    struct rest *rest = context;

    return opb_routes_lookup(rest->node->routes, session, rest->entry, &rest->route);
}

static void
rest_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct rest *rest = context;
    const OrthancPluginHttpRequest *request = rest->request;

    rest->handle =
        opb_handle_lend(opb_session_handles(session), OPB_CLASS_RestOutput, rest->output);
    opb_message_begin_request(message, OPB_CALL_REST_INDEX, 8);
    opb_pack_uint(message, rest->route);
    opb_pack_uint(message, rest->handle);
    opb_pack_cstr(message, rest->url);
    opb_pack_cstr(message, opb_method_text(request->method));
    opb_pack_text_array(message, request->groupsCount, request->groups);
    if (request->method == OrthancPluginHttpMethod_Get) {
        opb_pack_text_map(message, request->getCount, request->getKeys, request->getValues);
    }
    else {
        opb_pack_nil(message);
    }
    opb_pack_text_map(message, request->headersCount, request->headersKeys,
                      request->headersValues);
    if (request->method == OrthancPluginHttpMethod_Post ||
        request->method == OrthancPluginHttpMethod_Put) {
        opb_pack_bytes(message, request->body != NULL ? request->body : "",
                       request->bodySize);
    }
    else {
        opb_pack_nil(message);
    }
}

static void
rest_finish(struct opb_session *session, void *context)
{
    struct rest *rest = context;
    struct opb_handles *handles = opb_session_handles(session);

    rest->is_answering = opb_handle_is_marked(handles, rest->handle);
    opb_handle_end(handles, rest->handle);
}

/* Answers on behalf of the script. error and details go into JSON as they are. */
static OrthancPluginErrorCode
answer_failure(const struct rest *rest, uint16_t status, const char *error,
               const char *details)
{
    OrthancPluginContext *context = rest->node->context;
    char body[512];
    int bytes;

    bytes =
        snprintf(body, sizeof(body),
                 "{\n   \"Error\" : \"%s\",\n   \"Details\" : \"%s\"\n}\n", error, details);
    OrthancPluginSetHttpHeader(context, rest->output, "Content-Type", "application/json");
    OrthancPluginSendHttpStatus(context, rest->output, status, body, (uint32_t)bytes);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
answer_busy(const struct rest *rest, const char *details)
{
    OrthancPluginSetHttpHeader(rest->node->context, rest->output, "Retry-After", "1");
    return answer_failure(rest, 503, "Python is not available", details);
}

static OrthancPluginErrorCode
rest_end(const struct rest *rest, enum opb_outcome outcome)
{
    if (rest->is_answering && outcome != OPB_CALL_DONE && outcome != OPB_CALL_ENCODING) {
        return OrthancPluginErrorCode_Plugin; /* a second answer is not possible */
    }
    switch (outcome) {
    case OPB_CALL_DONE:
        return OrthancPluginErrorCode_Success;
    case OPB_CALL_ABSENT:
        return answer_failure(rest, 404, "Unknown resource",
                              "The Python script has not registered this route");
    case OPB_CALL_ENCODING:
        return OrthancPluginErrorCode_InternalError;
    case OPB_CALL_DIED:
        return answer_failure(rest, 502, "The Python host died during the request",
                              "The log of Orthanc says why. A new host is being started");
    case OPB_CALL_LATE:
        return answer_failure(rest, 504, "The Python callback has not returned in time",
                              "The log of Orthanc names the callback");
    case OPB_CALL_NO_HOST:
        return answer_busy(rest,
                           "No Python host was ready within Python.QueueTimeout. The log "
                           "of Orthanc says why the last one ended");
    case OPB_CALL_RAISED:
    case OPB_CALL_FAILED:
        break;
    }
    return OrthancPluginErrorCode_Plugin;
}

OrthancPluginErrorCode
opb_callback_rest(uint32_t entry, OrthancPluginRestOutput *output, const char *url,
                  const OrthancPluginHttpRequest *request)
{
    struct opb_node *node = opb_node_current();
    struct rest rest = {
        .node = node, .entry = entry, .output = output, .url = url, .request = request};
    struct opb_call_io io = {
        .pack = rest_pack, .finish = rest_finish, .context = &rest, .check = rest_check};
    OrthancPluginErrorCode code;
    char what[WHAT_BYTES];

    if (node == NULL) {
        return OrthancPluginErrorCode_Plugin;
    }
    if (opb_late_enter(opb_routes_late(node->routes))) {
        io.stat = opb_call_stats_route(node->call_stats, entry);
        (void)snprintf(what, sizeof(what), "REST callback for %s %s",
                       opb_method_text(request->method), url);
        code = rest_end(&rest,
                        opb_call_run(node, OPB_CALL_REST_INDEX, &io, what, OPB_FOREVER));
    }
    else {
        code = answer_busy(&rest, "A new REST route is being registered");
    }
    opb_late_leave(opb_routes_late(node->routes));
    return code;
}
