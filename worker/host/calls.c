/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/calls.c - runs one call of the node and answers it
 *
 * Here:      numbers of calls, taking the GIL, the one response to each request.
 * Elsewhere: the callbacks themselves (call_*.c), the thread's state between calls
 *            (call_thread.c), Load and Finalize (main_lane.c), reading
 *            frames (lane_thread.c; worker/module/link.c for nested ones).
 *
 * Every object of the callback is dropped before the response leaves: what runs then
 * (a finaliser that calls the SDK) still finds the node waiting on this lane.
 */
#include "arguments.h"
#include "slow.h"

#include <stdlib.h>
#include <string.h>

typedef void (*call_function)(struct opb_reader *params, struct opb_answer *answer);

#define CALL_NAME(upper, name) [OPB_CALL_##upper##_INDEX] = (name),
static const char *const call_names[OPB_CALL_COUNT] = {OPB_CALL_NAMES(CALL_NAME)};

/* NULL: Load and Finalize, which are not calls of a lane's loop, and what is not served. */
static const call_function call_functions[OPB_CALL_COUNT] = {
    [OPB_CALL_REST_INDEX] = opb_call_rest,
    [OPB_CALL_CHANGE_INDEX] = opb_call_change,
    [OPB_CALL_STORED_INSTANCE_INDEX] = opb_call_stored,
    [OPB_CALL_HTTP_FILTER_INDEX] = opb_call_filter,
    [OPB_CALL_RECEIVED_INSTANCE_INDEX] = opb_call_received,
    [OPB_CALL_CSTORE_FILTER_INDEX] = opb_call_cstore_filter,
    [OPB_CALL_STORAGE_CREATE_INDEX] = opb_call_storage_create,
    [OPB_CALL_STORAGE_READ_INDEX] = opb_call_storage_read,
    [OPB_CALL_STORAGE_REMOVE_INDEX] = opb_call_storage_remove,
    [OPB_CALL_STORAGE_CREATE3_INDEX] = opb_call_storage_create3,
    [OPB_CALL_STORAGE_READ3_INDEX] = opb_call_storage_read3,
    [OPB_CALL_STORAGE_REMOVE3_INDEX] = opb_call_storage_remove3,
    [OPB_CALL_COMMITMENT_INDEX] = opb_call_commitment,
    [OPB_CALL_COMMITMENT2_INDEX] = opb_call_commitment2,
    [OPB_CALL_COMMITMENT_LOOKUP_INDEX] = opb_call_commitment_lookup,
    [OPB_CALL_COMMITMENT_FREE_INDEX] = opb_call_commitment_free,
    [OPB_CALL_FIND_INDEX] = opb_call_find,
    [OPB_CALL_FIND2_INDEX] = opb_call_find2,
    [OPB_CALL_WORKLIST_INDEX] = opb_call_worklist,
    [OPB_CALL_WORKLIST2_INDEX] = opb_call_worklist2,
    [OPB_CALL_MOVE_INDEX] = opb_call_move,
    [OPB_CALL_MOVE2_INDEX] = opb_call_move2,
    [OPB_CALL_MOVE3_INDEX] = opb_call_move3,
    [OPB_CALL_MOVE_SIZE_INDEX] = opb_call_move_size,
    [OPB_CALL_MOVE_APPLY_INDEX] = opb_call_move_apply,
    [OPB_CALL_MOVE_FREE_INDEX] = opb_call_move_free,
};

/* Written once, by Load, before a call can arrive. */
static enum opb_call_index *numbers;
static uint32_t number_count;

enum opb_status
opb_calls_begin(const struct opb_node_info *info)
{
    numbers = calloc(info->call_count + 1u, sizeof(*numbers));
    if (numbers == NULL) {
        return OPB_NO_MEMORY;
    }
    for (uint32_t i = 0; i < info->call_count; i++) {
        numbers[i] = OPB_CALL_COUNT;
        for (uint32_t known = 0; known < OPB_CALL_COUNT; known++) {
            if (strcmp(info->calls[i], call_names[known]) == 0) {
                numbers[i] = (enum opb_call_index)known;
            }
        }
    }
    number_count = info->call_count;
    return OPB_OK;
}

enum opb_call_index
opb_calls_index(uint32_t method)
{
    return method < number_count ? numbers[method] : OPB_CALL_COUNT;
}

static void
pack_bytes(struct opb_message *message, PyObject *bytes)
{
    if (bytes == NULL) {
        opb_pack_nil(message);
    }
    else {
        /* lent: an immutable object that the answer owns; no GIL is needed to look */
        opb_pack_bytes(message, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    }
}

static void
pack_result(struct opb_message *message, const struct opb_answer *answer)
{
    switch (answer->kind) {
    case OPB_ANSWER_NIL:
        opb_pack_nil(message);
        break;
    case OPB_ANSWER_BOOL:
        opb_pack_bool(message, answer->number != 0);
        break;
    case OPB_ANSWER_INT:
        opb_pack_int(message, answer->number);
        break;
    case OPB_ANSWER_BYTES:
        pack_bytes(message, answer->bytes);
        break;
    case OPB_ANSWER_PAIR:
        opb_pack_array(message, 2);
        opb_pack_int(message, answer->number);
        pack_bytes(message, answer->bytes);
        break;
    }
}

static enum opb_status
send_answer(struct opb_lane *lane, uint32_t msgid, const struct opb_answer *answer)
{
    enum opb_status status;
    struct opb_link *link = opb_link_current(); /* NULL before Load has come so far */
    struct opb_message *message = link != NULL ? opb_link_message(link) : opb_message_new();

    if (message == NULL) {
        opb_lane_fail(lane, OPB_NO_MEMORY, "no memory for the answer");
        return OPB_NO_MEMORY;
    }
    if (answer->is_fault) {
        opb_message_error(message, msgid, answer->fault, answer->code,
                          answer->details != NULL ? answer->details : answer->text);
    }
    else {
        opb_message_begin_response(message, msgid);
        pack_result(message, answer);
    }
    /* No deadline: the node waits for this, and when it is gone so is the lane. */
    status = opb_lane_send(lane, message, OPB_FOREVER);
    if (link != NULL) {
        opb_link_message_back(link, message);
    }
    else {
        opb_message_free(message);
    }
    return status;
}

enum opb_status
opb_calls_answer_nil(struct opb_lane *lane, uint32_t msgid)
{
    const struct opb_answer answer = {.is_fault = false};

    return send_answer(lane, msgid, &answer);
}

enum opb_status
opb_calls_answer_fault(struct opb_lane *lane, uint32_t msgid, enum opb_fault fault,
                       int32_t code, const char *text)
{
    const struct opb_answer answer = {
        .is_fault = true, .fault = fault, .code = code, .text = text};

    return send_answer(lane, msgid, &answer);
}

static void
run_call(struct opb_call_thread *thread, enum opb_call_index index, struct opb_frame *frame,
         struct opb_answer *answer)
{
    struct opb_slow_call slow;
    struct opb_reader params;
    PyGILState_STATE gil = PyGILState_Ensure();
    uint32_t owner = opb_owner_set(OPB_NO_SCRIPT); /* this call may be nested in another */

    opb_call_thread_enter(thread);
    opb_slow_enter(&slow, call_names[index], frame);
    opb_frame_params(frame, &params);
    call_functions[index](&params, answer);
    opb_host_check_child(); /* first: a fork may have locked what the rest needs */
    opb_slow_leave(&slow);
    (void)opb_owner_set(owner);
    opb_call_thread_leave(thread, gil);
}

/* The answer has been sent: what it lent is no longer needed. */
static void
drop_answer(struct opb_answer *answer)
{
    PyGILState_STATE gil;

    free(answer->details);
    answer->details = NULL;
    if (answer->bytes != NULL) {
        gil = PyGILState_Ensure();
        Py_CLEAR(answer->bytes);
        PyGILState_Release(gil);
    }
}

enum opb_status
opb_calls_serve(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct opb_answer answer = {.is_fault = false};
    enum opb_call_index index;
    enum opb_status status;

    if (opb_frame_type(frame) != OPB_REQUEST) {
        opb_lane_fail(lane, OPB_BAD_FRAME, "the node sent something else than a call");
        return OPB_BAD_FRAME;
    }
    if (opb_interpreter_phase() != OPB_INTERPRETER_RUNNING) {
        opb_answer_fault(&answer, OPB_FAULT_UNAVAILABLE, 0,
                         opb_interpreter_phase() == OPB_INTERPRETER_NONE
                             ? "the host has not loaded the script yet"
                             : "the host is ending");
        return send_answer(lane, opb_frame_msgid(frame), &answer);
    }
    index = opb_calls_index(opb_frame_method(frame));
    if (index == OPB_CALL_COUNT) {
        opb_answer_fault(&answer, OPB_FAULT_UNAVAILABLE, 0,
                         "this host does not know the call: plugin and worker must be "
                         "installed from the same release");
    }
    else if (call_functions[index] == NULL) {
        opb_answer_fault(&answer, OPB_FAULT_PROTOCOL, 0,
                         "Load and Finalize come once each, on an idle main lane");
    }
    else {
        run_call(context, index, frame, &answer);
    }
    status = send_answer(lane, opb_frame_msgid(frame), &answer);
    drop_answer(&answer);
    return status;
}
