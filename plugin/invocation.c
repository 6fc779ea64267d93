/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/invocation.c - decoding, running and answering one SDK call
 *
 * Here:      who may call what and when, the one response of each request, what has to stay
 *            alive until that response has been sent.
 * Elsewhere: arguments (invocation_args.c), the functions themselves (generated,
 * sdk_custom.c).
 */
#include "invocation.h"

#include "call.h"
#include "deadlocks.h"
#include "handles.h"
#include "invocation_impl.h"
#include "log.h"
#include "self_query.h"
#include "session.h"
#include "threads.h"

#include "protocol/lane.h"

#include <stdio.h>
#include <string.h>

/* Reads up to so many digits. False if there is none; *text is behind them. */
static bool
read_number(const char **text, unsigned most_digits, uint32_t *out)
{
    const char *begin = *text;

    *out = 0;
    while (**text >= '0' && **text <= '9' && *text < begin + most_digits) {
        *out = *out * 10u + (uint32_t)(**text - '0');
        (*text)++;
    }
    return *text != begin;
}

/* By hand: it is asked for by each invocation, and sscanf() takes 1500 instructions. */
uint32_t
opb_orthanc_version(const char *text)
{
    uint32_t major;
    uint32_t minor;
    uint32_t revision = 0;

    if (strcmp(text, "mainline") == 0) {
        return UINT32_MAX;
    }
    if (!read_number(&text, 4, &major) || *text++ != '.' ||
        !read_number(&text, 3, &minor)) {
        return 0;
    }
    if (*text == '.') {
        text++;
        (void)read_number(&text, 3, &revision); /* "1.13." is 1.13.0 */
    }
    return major * 1000000u + minor * 1000u + revision;
}

const char *
opb_error_text(OrthancPluginContext *context, int32_t code)
{
    const char *text =
        OrthancPluginGetErrorDescription(context, (OrthancPluginErrorCode)code);

    return text != NULL ? text : "Unknown error code";
}

OrthancPluginContext *
opb_invocation_context(struct opb_invocation *inv)
{
    return inv->context;
}

struct opb_session *
opb_invocation_session(struct opb_invocation *inv)
{
    return inv->session;
}

void
opb_keep(struct opb_invocation *inv, void *memory, void (*release)(void *))
{
    if (memory == NULL) {
        return;
    }
    if (inv->kept_count == OPB_MAX_KEPT) { /* no function has so many texts */
        opb_log_error("%s keeps too much memory, which is lost", inv->function->name);
        return;
    }
    inv->kept[inv->kept_count].memory = memory;
    inv->kept[inv->kept_count].release = release;
    inv->kept_count++;
}

void
opb_give_fault(struct opb_invocation *inv, enum opb_fault fault, int32_t code,
               const char *text)
{
    if (inv->is_given) {
        return; /* the first fault is the one to tell */
    }
    inv->is_given = true;
    inv->fault = true;
    if (inv->wants_response) {
        opb_message_error(inv->message, inv->msgid, fault, code, text);
    }
    else {
        opb_log_info("%s, which answers nobody, has failed: %s", inv->function->name, text);
    }
}

static void
give_code_fault(struct opb_invocation *inv, int32_t code)
{
    opb_give_fault(inv, OPB_FAULT_ORTHANC, code, opb_error_text(inv->context, code));
}

/* Begins the response. NULL: there is nobody to answer, or a fault is told already. */
static struct opb_message *
begin(struct opb_invocation *inv)
{
    if (inv->is_given) {
        return NULL;
    }
    inv->is_given = true;
    if (!inv->wants_response) {
        return NULL;
    }
    opb_message_begin_response(inv->message, inv->msgid);
    return inv->message;
}

struct opb_message *
opb_give_begin(struct opb_invocation *inv)
{
    struct opb_message *message = begin(inv);

    /* a caller who packs for nobody does no harm: the message is not sent */
    if (message == NULL) {
        opb_message_begin_response(inv->message, inv->msgid);
        message = inv->message;
    }
    return message;
}

void
opb_give_void(struct opb_invocation *inv)
{
    struct opb_message *message = begin(inv);

    if (message != NULL) {
        opb_pack_nil(message);
    }
}

void
opb_give_bool(struct opb_invocation *inv, bool value)
{
    struct opb_message *message = begin(inv);

    if (message != NULL) {
        opb_pack_bool(message, value);
    }
}

void
opb_give_code(struct opb_invocation *inv, OrthancPluginErrorCode code)
{
    if (code == OrthancPluginErrorCode_Success) {
        opb_give_void(inv);
    }
    else {
        give_code_fault(inv, (int32_t)code);
    }
}

void
opb_give_bytes(struct opb_invocation *inv, const void *data, uint64_t size)
{
    struct opb_message *message = begin(inv);

    if (message != NULL) {
        opb_pack_bytes(message, data != NULL ? data : "", (size_t)size);
    }
}

void
opb_give_buffer(struct opb_invocation *inv, OrthancPluginErrorCode code,
                OrthancPluginMemoryBuffer *buffer)
{
    if (code != OrthancPluginErrorCode_Success) {
        give_code_fault(inv, (int32_t)code);
        return;
    }
    opb_keep(inv, buffer->data, inv->context->Free);
    opb_give_bytes(inv, buffer->data, buffer->size);
    buffer->data = NULL;
}

/* Long texts travel like bytes: an envelope is limited, a text from the server is not. */
static void
give_text(struct opb_invocation *inv, const char *text)
{
    size_t bytes = strlen(text);
    struct opb_message *message;

    if (bytes > OPB_LONG_TEXT_BYTES) {
        opb_give_bytes(inv, text, bytes);
        return;
    }
    message = begin(inv);
    if (message != NULL) {
        opb_pack_str(message, text, bytes);
    }
}

void
opb_give_string(struct opb_invocation *inv, char *text)
{
    if (text == NULL) {
        give_code_fault(inv, OrthancPluginErrorCode_InternalError);
        return;
    }
    opb_keep(inv, text, inv->context->Free);
    give_text(inv, text);
}

void
opb_give_static_string(struct opb_invocation *inv, const char *text)
{
    if (text == NULL) {
        opb_give_void(inv);
    }
    else {
        give_text(inv, text);
    }
}

void
opb_give_int(struct opb_invocation *inv, int64_t value)
{
    struct opb_message *message = begin(inv);

    if (message != NULL) {
        opb_pack_int(message, value);
    }
}

void
opb_give_uint(struct opb_invocation *inv, uint64_t value)
{
    struct opb_message *message = begin(inv);

    if (message != NULL) {
        opb_pack_uint(message, value);
    }
}

void
opb_give_float(struct opb_invocation *inv, double value)
{
    struct opb_message *message = begin(inv);

    if (message != NULL) {
        opb_pack_double(message, value);
    }
}

void
opb_give_object(struct opb_invocation *inv, enum opb_class class_id, void *object)
{
    struct opb_message *message;
    uint64_t handle;

    if (object == NULL) {
        give_code_fault(inv, OrthancPluginErrorCode_InternalError);
        return;
    }
    handle = opb_handle_own(inv->handles, class_id, object);
    if (handle == 0) {
        (void)opb_sdk_free_object(inv->context, class_id, object);
        give_code_fault(inv, OrthancPluginErrorCode_NotEnoughMemory);
        return;
    }
    inv->new_handle = handle;
    message = begin(inv);
    if (message != NULL) {
        opb_pack_uint(message, handle);
    }
}

/* With the node's lock held, as the next one. */
static void
list_server_call(struct opb_invocation *inv)
{
    struct opb_invocation **first = &inv->node->server_calls;

    inv->is_server_call = true;
    inv->begun = time(NULL);
    inv->next_server_call = *first;
    inv->server_call_link = first;
    if (*first != NULL) {
        (*first)->server_call_link = &inv->next_server_call;
    }
    *first = inv;
}

static void
unlist_server_call(struct opb_invocation *inv)
{
    *inv->server_call_link = inv->next_server_call;
    if (inv->next_server_call != NULL) {
        inv->next_server_call->server_call_link = inv->server_call_link;
    }
}

/* The first argument is looked at before the function reads it. */
static bool
is_self_query(const struct opb_invocation *inv, char *text, size_t capacity)
{
    struct opb_reader reader = inv->reader;
    size_t bytes = 0;
    const char *uri;

    if (strncmp(inv->function->signature, "sb:", 3) != 0 || opb_call_depth() == 0) {
        return false;
    }
    uri = opb_read_str(&reader, &bytes);
    return reader.status == OPB_OK &&
           opb_self_query_is_certain(inv->node, inv->function->name, uri, bytes, text,
                                     capacity);
}

/* What the core says, by what the function gives: text and objects are NULL then, which is
 * an error without a reason, and the functions of the key-value store have their own. */
static void
refuse_without_server(struct opb_invocation *inv)
{
    const OrthancPluginErrorCode code = OrthancPluginErrorCode_DatabaseNotInitialized;

    switch (strchr(inv->function->signature, ':')[1]) {
    case 's':
    case 'O':
        give_code_fault(inv, OrthancPluginErrorCode_InternalError);
        break;
    case 'i':
    case 'x':
        opb_give_fault(inv, OPB_FAULT_TYPE, 0, opb_error_text(inv->context, code));
        break;
    default:
        give_code_fault(inv, code);
        break;
    }
}

/* Refuses what this server lacks, and what may not be called in this phase of its life. */
static bool
may_run(struct opb_invocation *inv)
{
    const struct opb_sdk_function *function = inv->function;
    const char *running = inv->context->orthancVersion;
    enum opb_phase phase;
    char text[512];

    if (function->since > 0 && function->since > opb_orthanc_version(running)) {
        (void)snprintf(text, sizeof(text),
                       "%s needs Orthanc %u.%u.%u or newer; this server is %s",
                       function->name, function->since / 1000000u,
                       function->since / 1000u % 1000u, function->since % 1000u, running);
        opb_give_fault(inv, OPB_FAULT_UNAVAILABLE, 0, text);
        return false;
    }
    if (function->flags == 0) {
        return true;
    }
    if (opb_deadlock_is_certain(function, opb_orthanc_version(running), text,
                                sizeof(text)) ||
        is_self_query(inv, text, sizeof(text))) {
        opb_give_fault(inv, OPB_FAULT_RUNTIME, 0, text);
        return false;
    }
    pthread_mutex_lock(&inv->node->lock);
    phase = inv->node->phase;
    if ((function->flags & OPB_SDK_NEEDS_SERVER) != 0 && opb_call_is_own_thread() &&
        phase < OPB_PHASE_STOPPED) {
        list_server_call(inv); /* ORTHANC_STOPPED waits for it: see drain */
    }
    pthread_mutex_unlock(&inv->node->lock);
    if (phase == OPB_PHASE_FINALIZING && (function->flags & OPB_SDK_PROTECTED) != 0) {
        (void)snprintf(text, sizeof(text),
                       "%s cannot run while Orthanc unloads its plugins", function->name);
        opb_give_fault(inv, OPB_FAULT_ORTHANC, OrthancPluginErrorCode_BadSequenceOfCalls,
                       text);
        return false;
    }
    if (phase >= OPB_PHASE_STOPPED && (function->flags & OPB_SDK_NEEDS_SERVER) != 0 &&
        opb_call_is_own_thread()) {
        refuse_without_server(inv); /* which may be going away under our feet */
        return false;
    }
    return true;
}

bool
opb_invocations_drain(struct opb_node *node, uint64_t deadline_ms, time_t *since)
{
    enum opb_status status = OPB_OK;
    bool is_drained;

    pthread_mutex_lock(&node->lock);
    while (node->server_calls != NULL && status == OPB_OK) {
        status = opb_condition_wait(&node->changed, &node->lock, deadline_ms);
    }
    is_drained = node->server_calls == NULL;
    for (const struct opb_invocation *inv = node->server_calls; inv != NULL;
         inv = inv->next_server_call) {
        *since = inv->begun; /* the last in the list is the oldest */
    }
    pthread_mutex_unlock(&node->lock);
    return is_drained;
}

static enum opb_status
send_response(struct opb_invocation *inv, struct opb_lane *lane, uint64_t deadline_ms)
{
    enum opb_status status = opb_message_status(inv->message);

    if (status != OPB_OK) { /* too large, or no memory: tell that instead */
        const int32_t code = OrthancPluginErrorCode_NotEnoughMemory;

        inv->fault = true;
        opb_message_error(inv->message, inv->msgid, OPB_FAULT_ORTHANC, code,
                          opb_error_text(inv->context, code));
    }
    return opb_lane_send(lane, inv->message, deadline_ms);
}

static void
invocation_fini(struct opb_invocation *inv, bool is_sent)
{
    while (inv->pin_count > 0) {
        opb_handle_unpin(inv->handles, inv->pins[--inv->pin_count]);
    }
    while (inv->kept_count > 0) {
        inv->kept_count--;
        inv->kept[inv->kept_count].release(inv->kept[inv->kept_count].memory);
    }
    if (inv->new_handle != 0 && (!is_sent || inv->fault || !inv->wants_response)) {
        (void)opb_handle_release(inv->handles, inv->new_handle, inv->context);
    }
    if (inv->is_server_call) {
        pthread_mutex_lock(&inv->node->lock);
        unlist_server_call(inv);
        if (inv->node->server_calls == NULL && inv->node->phase >= OPB_PHASE_STOPPED) {
            pthread_cond_broadcast(&inv->node->changed);
        }
        pthread_mutex_unlock(&inv->node->lock);
    }
}

enum opb_status
opb_invocation_run(struct opb_session *session, struct opb_lane *lane,
                   struct opb_frame *frame, struct opb_message *message,
                   uint64_t deadline_ms)
{
    struct opb_invocation inv = {
        .node = opb_session_node(session),
        .session = session,
        .handles = opb_session_handles(session),
        .message = message,
        .wants_response = opb_frame_type(frame) == OPB_REQUEST,
    };
    uint32_t method = opb_frame_method(frame);
    enum opb_status status = OPB_OK;

    inv.context = inv.node->context;
    inv.msgid = inv.wants_response ? opb_frame_msgid(frame) : 0;
    if (method >= opb_sdk_function_count) {
        static const struct opb_sdk_function unknown = {.name = "an unknown function"};

        inv.function = &unknown;
        opb_give_fault(&inv, OPB_FAULT_UNAVAILABLE, 0, "This node offers no such function");
    }
    else {
        inv.function = &opb_sdk_functions[method];
        opb_frame_params(frame, &inv.reader);
        if (may_run(&inv)) {
            struct opb_running running;

            opb_running_begin(&running, inv.function);
            inv.function->run(&inv);
            opb_running_end(&running);
        }
        if (!inv.is_given) { /* cannot happen: a dispatch function gives a result */
            opb_give_fault(&inv, OPB_FAULT_UNAVAILABLE, 0,
                           "The function has given no result");
        }
    }
    if (inv.wants_response) {
        status = send_response(&inv, lane, deadline_ms);
    }
    else if (inv.is_malformed) {
        opb_lane_fail(lane, OPB_BAD_FRAME,
                      "the host has posted an SDK call with wrong arguments");
        status = OPB_BAD_FRAME;
    }
    invocation_fini(&inv, status == OPB_OK);
    return status;
}
