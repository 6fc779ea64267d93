/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/exchange.c - a request, whatever it makes the peer ask, and its response
 *
 * Here:      strict nesting: the thread that waits serves what arrives, and only the
 *            response to the innermost request may come.
 * Elsewhere: frames (lane.c, receive.c), what a request means (the serve function).
 * Called by: the owner thread, which is inside it for the length of a call.
 */
#include "protocol/internal.h"
#include "protocol/sockets.h"

static enum opb_status
serve_request(struct opb_lane *lane, struct opb_frame *frame, opb_serve_fn serve,
              void *context)
{
    struct opb_serving serving = {
        .is_request = opb_frame_type(frame) == OPB_REQUEST,
        .msgid = opb_frame_msgid(frame),
    };
    struct opb_serving *outer = lane->serving;
    enum opb_status status;

    if (serve == NULL) {
        return opb_lane_fail_with(lane, OPB_BAD_FRAME,
                                  "the peer sent method %u where only a response may come",
                                  opb_frame_method(frame));
    }
    lane->serving = &serving;
    status = serve(context, lane, frame);
    lane->serving = outer;
    if (status != OPB_OK) {
        return status;
    }
    if (opb_lane_status(lane) != OPB_OK) {
        return opb_lane_status(lane);
    }
    if (serving.is_request && !serving.is_answered) {
        return opb_lane_fail_with(lane, OPB_BAD_FRAME,
                                  "this side gave no answer to method %u",
                                  opb_frame_method(frame));
    }
    return OPB_OK;
}

static enum opb_status
await_response(struct opb_lane *lane, uint32_t msgid, opb_serve_fn serve, void *context,
               uint64_t deadline_ms, struct opb_frame **response)
{
    if (lane->is_prompt) {
        opb_stream_linger(lane);
    }
    for (;;) {
        struct opb_frame *frame;
        enum opb_status status;

        status = opb_lane_receive(lane, &frame, deadline_ms);
        if (status != OPB_OK) {
            return status;
        }
        if (opb_frame_type(frame) == OPB_RESPONSE) {
            if (opb_frame_msgid(frame) == msgid) {
                *response = frame;
                return OPB_OK;
            }
            status = opb_lane_fail_with(
                lane, OPB_BAD_FRAME,
                "the peer answered request %u where the answer to %u was due",
                opb_frame_msgid(frame), msgid);
        }
        else {
            status = serve_request(lane, frame, serve, context);
        }
        opb_frame_free(frame);
        if (status != OPB_OK) {
            return status;
        }
        if (deadline_ms != OPB_FOREVER && opb_clock_ms() >= deadline_ms) {
            return OPB_LATE; /* a peer that never stops asking is late too */
        }
        opb_stream_linger(lane); /* SDK calls often come in a row */
    }
}

enum opb_status
opb_exchange(struct opb_lane *lane, struct opb_message *request, opb_serve_fn serve,
             void *context, uint64_t deadline_ms, struct opb_frame **response)
{
    struct opb_serving *outer = lane->serving;
    enum opb_status status;
    uint32_t msgid;

    *response = NULL;
    if (opb_lane_status(lane) != OPB_OK) {
        return opb_lane_status(lane);
    }
    if (lane->depth >= OPB_MAX_CALL_DEPTH) {
        return OPB_TOO_LARGE;
    }
    if (opb_message_status(request) != OPB_OK) {
        return opb_message_status(request);
    }
    if (opb_message_type(request) != OPB_REQUEST) {
        return OPB_BAD_FRAME;
    }
    msgid = ++lane->last_msgid;
    opb_message_set_msgid(request, msgid);
    status = opb_lane_send(lane, request, deadline_ms);
    if (status != OPB_OK) {
        return status;
    }
    lane->depth++;
    lane->serving = NULL; /* no answer may go out before ours has come in */
    status = await_response(lane, msgid, serve, context, deadline_ms, response);
    lane->serving = outer;
    lane->depth--;
    if (status != OPB_OK && opb_lane_status(lane) == OPB_OK) {
        /* The answer would come when nobody waits for it any more. */
        (void)opb_lane_fail_with(lane, status, "request %u was given up: %s", msgid,
                                 opb_status_text(status));
    }
    return status;
}
