/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/control.c - the control connection of a node to its pool, while it is there
 *
 * Here:      see control.h: what the pool says, and what it is told. The supervisor thread.
 * Elsewhere: its beginning (control_attach.c), frames (protocol/lane.h), what the news lead
 *            to (host_news.c).
 */
#include "plugin/control_state.h"

#include "plugin/log.h"
#include "plugin/scripts.h"
#include "protocol/sockets.h"
#include "protocol/words.h"

#include <limits.h>
#include <stdlib.h>

#define MAX_REASON_BYTES    256u
#define MAX_FRAMES_PER_TURN 64
#define FRAME_REST_MS       5000u /* for what is left of one; stacks are up to 128 KiB */
#define DETACH_MSGID        UINT32_MAX /* far from those of opb_exchange() */
#define RATE_PERIOD_MS      1000u
#define MAX_LINES           4000u /* in a period; the stacks of a host that hangs fit */
#define MAX_NEWS            1000u /* in a period; more than a pool can start hosts */

void
opb_control_copy_line(char *out, size_t capacity, const char *text)
{
    size_t i;

    for (i = 0; text[i] != '\0' && i + 1 < capacity; i++) {
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
    }
    out[i] = '\0';
}

/* Counts begin anew with each period. */
static void
count_period(struct opb_control *control)
{
    uint64_t now_ms = opb_clock_ms();

    if (now_ms - control->period_ms >= RATE_PERIOD_MS) {
        control->period_ms = now_ms;
        control->line_count = 0;
        control->news_count = 0;
    }
}

static void
serve_log(struct opb_control *control, struct opb_reader *reader)
{
    uint64_t level = opb_read_uint(reader, OPB_LOG_INFO);
    const char *text = opb_read_cstr(reader, false);
    char line[1024];

    if (opb_reader_finish(reader) != OPB_OK || control->line_count > MAX_LINES) {
        return;
    }
    if (++control->line_count > MAX_LINES) {
        opb_log_warning("Worker: more than %u lines in a second: the rest is left out",
                        MAX_LINES);
        return;
    }
    opb_control_copy_line(line, sizeof(line), text);
    switch ((enum opb_log_level)level) {
    case OPB_LOG_ERROR:
        opb_log_error("Worker: %s", line);
        break;
    case OPB_LOG_WARNING:
        opb_log_warning("Worker: %s", line);
        break;
    case OPB_LOG_INFO:
        opb_log_info("Worker: %s", line);
        break;
    }
}

static void
serve_died(struct opb_control *control, struct opb_reader *reader)
{
    uint32_t host = (uint32_t)opb_read_uint(reader, UINT32_MAX);
    pid_t pid = (pid_t)opb_read_uint(reader, INT32_MAX);
    const char *reason = opb_read_cstr(reader, false);
    char line[MAX_REASON_BYTES];

    if (opb_reader_finish(reader) == OPB_OK) {
        opb_control_copy_line(line, sizeof(line), reason);
        control->news->host_died(control->news->context, host, pid, line);
    }
}

static void
serve_started(struct opb_reader *reader, void *context,
              void (*started)(void *context, uint32_t host, pid_t pid, uint32_t worker))
{
    uint32_t host = (uint32_t)opb_read_uint(reader, UINT32_MAX);
    pid_t pid = (pid_t)opb_read_uint(reader, INT32_MAX);
    uint32_t worker = (uint32_t)opb_read_uint(reader, OPB_MAX_WORKERS - 1);

    if (opb_reader_finish(reader) == OPB_OK) {
        started(context, host, pid, worker);
    }
}

static void
serve_next_count(const struct opb_control *control, struct opb_reader *reader)
{
    uint32_t workers = (uint32_t)opb_read_uint(reader, OPB_MAX_WORKERS);

    if (opb_reader_finish(reader) == OPB_OK) {
        control->news->next_count(control->news->context, workers);
    }
}

static void
serve_switched(const struct opb_control *control, struct opb_reader *reader)
{
    uint32_t host = (uint32_t)opb_read_uint(reader, UINT32_MAX);

    if (opb_reader_finish(reader) == OPB_OK) {
        control->news->switched(control->news->context, host);
    }
}

static void
serve_reload(const struct opb_control *control, struct opb_reader *reader)
{
    if (opb_reader_finish(reader) == OPB_OK) {
        control->news->reload(control->news->context);
    }
}

static void
serve_looked(const struct opb_control *control, struct opb_reader *reader)
{
    uint32_t ticket = (uint32_t)opb_read_uint(reader, UINT32_MAX);
    const char *text = opb_read_cstr(reader, false);
    const char *problem = opb_read_cstr(reader, false);

    if (opb_reader_finish(reader) == OPB_OK) {
        control->news->looked(control->news->context, ticket, text, problem);
    }
}

static void
serve_leaving(const struct opb_control *control, struct opb_reader *reader)
{
    if (opb_reader_finish(reader) == OPB_OK) {
        control->news->leaving(control->news->context);
    }
}

/* The answer to DETACH, the one request that nobody waits for on the lane. */
static enum opb_status
serve_detached(struct opb_control *control, struct opb_frame *frame)
{
    if (!control->is_detaching || opb_frame_msgid(frame) != DETACH_MSGID ||
        opb_frame_fault(frame, NULL, NULL, NULL)) {
        opb_lane_fail(control->lane, OPB_BAD_FRAME, "the pool answered out of turn");
        return OPB_BAD_FRAME;
    }
    control->is_detaching = false;
    control->is_detached = true;
    return OPB_OK;
}

enum opb_status
opb_control_serve_frame(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct opb_control *control = context;
    struct opb_reader reader;

    if (opb_frame_type(frame) != OPB_NOTIFY) {
        opb_lane_fail(lane, OPB_BAD_FRAME, "the pool asked the node something");
        return OPB_BAD_FRAME;
    }
    count_period(control);
    if (opb_frame_method(frame) != OPB_CONTROL_LOG && ++control->news_count > MAX_NEWS) {
        opb_lane_fail(lane, OPB_BAD_FRAME, "the pool sends more news than there can be");
        return OPB_BAD_FRAME;
    }
    opb_frame_params(frame, &reader);
    switch (opb_frame_method(frame)) {
    case OPB_CONTROL_HOST_STARTED:
        serve_started(&reader, control->news->context, control->news->host_started);
        break;
    case OPB_CONTROL_NEXT_STARTED:
        serve_started(&reader, control->news->context, control->news->next_started);
        break;
    case OPB_CONTROL_NEXT_COUNT:
        serve_next_count(control, &reader);
        break;
    case OPB_CONTROL_SWITCHED:
        serve_switched(control, &reader);
        break;
    case OPB_CONTROL_RELOAD:
        serve_reload(control, &reader);
        break;
    case OPB_CONTROL_LOOKED:
        serve_looked(control, &reader);
        break;
    case OPB_CONTROL_LEAVING:
        serve_leaving(control, &reader);
        break;
    case OPB_CONTROL_HOST_DIED:
        serve_died(control, &reader);
        break;
    case OPB_CONTROL_LOG:
        serve_log(control, &reader);
        break;
    default:
        opb_lane_fail(lane, OPB_BAD_FRAME, "the pool sent an unknown notification");
        return OPB_BAD_FRAME;
    }
    if (opb_reader_finish(&reader) != OPB_OK) {
        opb_lane_fail(lane, OPB_BAD_FRAME, "the pool sent a malformed notification");
        return OPB_BAD_FRAME;
    }
    return OPB_OK;
}

int
opb_control_fd(const struct opb_control *control)
{
    return opb_lane_fd(control->lane);
}

const char *
opb_control_failure(const struct opb_control *control)
{
    return opb_lane_failure(control->lane);
}

enum opb_status
opb_control_serve(struct opb_control *control, bool *has_more)
{
    *has_more = false;
    for (int i = 0; i < MAX_FRAMES_PER_TURN; i++) {
        struct opb_frame *frame;
        enum opb_status status;

        status =
            opb_lane_receive_now(control->lane, &frame, opb_deadline_ms(FRAME_REST_MS));
        if (status == OPB_LATE && opb_lane_status(control->lane) == OPB_OK) {
            return OPB_OK;
        }
        if (status != OPB_OK) {
            return status;
        }
        if (opb_frame_type(frame) == OPB_RESPONSE) {
            status = serve_detached(control, frame);
        }
        else {
            status = opb_control_serve_frame(control, control->lane, frame);
        }
        opb_frame_free(frame);
        if (status != OPB_OK) {
            return status;
        }
    }
    *has_more = true;
    return OPB_OK;
}

static enum opb_status
send_about_host(struct opb_control *control, enum opb_control_method method, uint32_t host,
                const char *reason, uint64_t deadline_ms)
{
    opb_message_begin_notify(control->message, method, 2);
    opb_pack_uint(control->message, host);
    opb_pack_cstr(control->message, reason);
    return opb_lane_send(control->lane, control->message, deadline_ms);
}

enum opb_status
opb_control_replace_host(struct opb_control *control, uint32_t host, const char *reason,
                         uint64_t deadline_ms)
{
    return send_about_host(control, OPB_CONTROL_REPLACE_HOST, host, reason, deadline_ms);
}

enum opb_status
opb_control_host_hangs(struct opb_control *control, uint32_t host, const char *reason,
                       uint64_t deadline_ms)
{
    return send_about_host(control, OPB_CONTROL_HOST_HANGS, host, reason, deadline_ms);
}

enum opb_status
opb_control_look(struct opb_control *control, uint32_t host, uint32_t ticket,
                 uint64_t deadline_ms)
{
    opb_message_begin_notify(control->message, OPB_CONTROL_LOOK, 2);
    opb_pack_uint(control->message, host);
    opb_pack_uint(control->message, ticket);
    return opb_lane_send(control->lane, control->message, deadline_ms);
}

enum opb_status
opb_control_start_next(struct opb_control *control, const struct opb_scripts *scripts,
                       uint32_t workers, uint64_t deadline_ms)
{
    opb_message_begin_notify(control->message, OPB_CONTROL_START_NEXT, 2);
    opb_scripts_pack(scripts, control->message);
    opb_pack_uint(control->message, workers);
    return opb_lane_send(control->lane, control->message, deadline_ms);
}

enum opb_status
opb_control_switch(struct opb_control *control, const uint32_t *hosts, uint32_t count,
                   uint64_t deadline_ms)
{
    opb_message_begin_notify(control->message, OPB_CONTROL_SWITCH, 1);
    opb_pack_array(control->message, count);
    for (uint32_t i = 0; i < count; i++) {
        opb_pack_uint(control->message, hosts[i]);
    }
    return opb_lane_send(control->lane, control->message, deadline_ms);
}

enum opb_status
opb_control_detach(struct opb_control *control, uint64_t grace_ms, uint64_t deadline_ms)
{
    opb_message_begin_request(control->message, OPB_CONTROL_DETACH, 1);
    opb_message_set_msgid(control->message, DETACH_MSGID);
    opb_pack_uint(control->message, grace_ms);
    control->is_detaching = true;
    return opb_lane_send(control->lane, control->message, deadline_ms);
}

bool
opb_control_is_detached(const struct opb_control *control)
{
    return control->is_detached;
}

void
opb_control_close(struct opb_control *control)
{
    if (control == NULL) {
        return;
    }
    opb_lane_close(control->lane);
    opb_message_free(control->message);
    free(control);
}
