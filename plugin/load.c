/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/load.c - the first and the last call of a host
 *
 * Here:      the map of Load, and what each outcome means to people.
 * Elsewhere: running a call on a lane (call.c), the words of the map (protocol/words.h).
 */
#include "plugin/load.h"

#include "plugin/call.h"
#include "plugin/history.h"
#include "plugin/invocation.h"
#include "plugin/kinds.h"
#include "plugin/log.h"
#include "protocol/handshake.h"
#include "protocol/sockets.h"
#include "protocol/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEATH_TEXT_BYTES 256u
#define DEATH_WAIT_MS    2000u /* the pool's news come on another connection */
#define LOAD_KEY_COUNT   14u

#define CALL_NAME(upper, name) name,
static const char *const call_names[] = {OPB_CALL_NAMES(CALL_NAME)};

#define MAX_FILES 4096u

struct load {
    char *files; /* each with its NUL, then another one; NULL: not told, or no memory */
    const struct opb_load *told;
};

static void
pack_functions(struct opb_message *message)
{
    opb_pack_cstr(message, "functions");
    opb_pack_array(message, opb_sdk_function_count);
    for (uint32_t i = 0; i < opb_sdk_function_count; i++) {
        opb_pack_array(message, 2);
        opb_pack_cstr(message, opb_sdk_functions[i].name);
        opb_pack_cstr(message, opb_sdk_functions[i].signature);
    }
}

static void
pack_calls(struct opb_message *message)
{
    opb_pack_cstr(message, "calls");
    opb_pack_array(message, OPB_CALL_COUNT);
    for (uint32_t i = 0; i < OPB_CALL_COUNT; i++) {
        opb_pack_cstr(message, call_names[i]);
    }
}

static void
pack_text(struct opb_message *message, const char *key, const char *text)
{
    opb_pack_cstr(message, key);
    opb_pack_cstr(message, text);
}

static void
pack_bool(struct opb_message *message, const char *key, bool value)
{
    opb_pack_cstr(message, key);
    opb_pack_bool(message, value);
}

static void
pack_number(struct opb_message *message, const char *key, uint32_t value)
{
    opb_pack_cstr(message, key);
    opb_pack_uint(message, value);
}

static void
pack_load(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct load *load = context;
    struct opb_node *node = opb_session_node(session);
    const struct opb_config *config = node->config;

    opb_message_begin_request(message, OPB_CALL_LOAD, 1);
    opb_pack_map(message, LOAD_KEY_COUNT);
    pack_text(message, "version", node->context->orthancVersion);
    pack_functions(message);
    pack_calls(message);
    opb_pack_cstr(message, "scripts");
    opb_scripts_pack(load->told->scripts, message);
    pack_bool(message, "verbose", config->verbose);
    pack_bool(message, "memory_usage", config->display_memory_usage);
    pack_text(message, "node_socket", load->told->node_socket);
    pack_text(message, "node", node->name);
    pack_number(message, "host", opb_session_host(session));
    opb_pack_cstr(message, "secret");
    opb_pack_bytes(message, node->secret, sizeof(node->secret));
    pack_text(message, "orthanc", load->told->orthanc_path);
    pack_number(message, "worker_index", opb_session_worker(session));
    pack_number(message, "workers_count", opb_session_worker_count(session));
    pack_number(message, "slow_call_ms", config->slow_call_ms);
}

/* Appends a path to the list, which has room for it. */
static char *
append(char *end, const char *path)
{
    size_t bytes = strlen(path) + 1;

    memcpy(end, path, bytes);
    return end + bytes;
}

static void
read_loaded(struct opb_reader *reader, void *context)
{
    struct load *load = context;
    struct opb_reader counting;
    struct opb_reader items;
    size_t bytes = 1;
    uint32_t count;
    char *end;

    if (!opb_read_is_array(reader)) {
        opb_read_skip(reader);
        return;
    }
    count = opb_read_array(reader, &items);
    counting = items;
    for (uint32_t i = 0; i < count && i < MAX_FILES; i++) {
        bytes += strlen(opb_read_cstr(&counting, false)) + 1;
    }
    if (counting.status != OPB_OK || count > MAX_FILES) {
        reader->status = OPB_BAD_FRAME;
        return;
    }
    free(load->files);
    load->files = malloc(bytes);
    end = load->files;
    for (uint32_t i = 0; i < count && end != NULL; i++) {
        const char *path = opb_read_cstr(&items, false);

        end =
            path[0] == '/' ? append(end, path) : end; /* an empty one would end the list */
    }
    if (end != NULL) {
        *end = '\0';
    }
}

static void
pack_finalize(struct opb_message *message, struct opb_session *session, void *context)
{
    (void)session;
    (void)context;
    opb_message_begin_request(message, OPB_CALL_FINALIZE_INDEX, 0);
}

/* How the host of a broken lane ended; false if it lives, which is as bad. */
static bool
describe_death(struct opb_session *session, char out[DEATH_TEXT_BYTES])
{
    if (!opb_session_wait_death(session, opb_deadline_ms(DEATH_WAIT_MS))) {
        return false;
    }
    opb_session_death(session, out, DEATH_TEXT_BYTES);
    return true;
}

static enum opb_status
explain_broken(struct opb_session *session, const struct opb_lane *lane, const char *doing,
               char *message, size_t capacity)
{
    char death[DEATH_TEXT_BYTES];
    const struct opb_config *config = opb_session_node(session)->config;
    const char *script = config->script_path;

    if (describe_death(session, death)) {
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity,
                       "%s %s ended the host process while it was being %s: it %s",
                       opb_scripts_are_several(config) ? "One of the Python scripts"
                                                       : "The Python script",
                       script, doing, death);
    }
    else {
        (void)snprintf(
            message, capacity,
            "The connection to the host (pid %ld) broke while the Python script %s "
            "was being %s: %s",
            (long)opb_session_pid(session), script, doing,
            lane == NULL ? "it accepts none" : opb_lane_failure(lane));
    }
    return OPB_GONE;
}

/* The host may be slow to start: Python, with a cold disk. */
static enum opb_status
connect_main(struct opb_session *session, struct opb_lane **lane, char *message,
             size_t capacity)
{
    const struct opb_config *config = opb_session_node(session)->config;
    enum opb_status status;

    status = opb_session_connect(session, lane, OPB_CONNECTION_MAIN,
                                 opb_deadline_ms(config->start_timeout_ms));
    if (status == OPB_LATE) {
        /* a message that does not fit is cut */
        (void)snprintf(
            message, capacity,
            "The host (pid %ld) was not ready within %u ms: if this machine is very "
            "slow, raise the configuration option \"Python.StartTimeout\"",
            (long)opb_session_pid(session), config->start_timeout_ms);
    }
    else if (status == OPB_NO_MEMORY) {
        (void)snprintf(message, capacity, "Not enough memory for a lane to the host");
    }
    else if (status != OPB_OK) {
        char death[DEATH_TEXT_BYTES];

        if (describe_death(session, death)) {
            (void)snprintf(message, capacity,
                           "The host process (pid %ld) could not start Python: it %s",
                           (long)opb_session_pid(session), death);
        }
        else {
            (void)snprintf(message, capacity, "The host (pid %ld) takes no lane: %s",
                           (long)opb_session_pid(session), opb_status_text(status));
        }
    }
    return status;
}

/* For who looks later. */
static void
note_exception(struct opb_session *session, const char *text)
{
    const struct opb_happening happening = {.pid = opb_session_pid(session),
                                            .kind = opb_call_name(OPB_CALL_LOAD_INDEX),
                                            .what = "import of the script",
                                            .text = text};

    opb_history_add(opb_session_node(session)->history, OPB_HISTORY_EXCEPTIONS, &happening);
}

enum opb_status
opb_load_run(struct opb_session *session, const struct opb_load *told, uint64_t deadline_ms,
             struct opb_lane **lane, bool *is_logged, char **files, char *message,
             size_t capacity)
{
    struct load load = {.told = told};
    const struct opb_call_io io = {
        .pack = pack_load, .result = read_loaded, .context = &load};
    enum opb_outcome outcome;
    enum opb_status status;
    char text[4096] = "";

    *is_logged = false;
    *files = NULL;
    *lane = NULL;
    message[0] = '\0';
    status = connect_main(session, lane, message, capacity);
    if (status != OPB_OK) {
        return status;
    }
    outcome = opb_call_run_on(session, *lane, OPB_CALL_LOAD_INDEX, &io, deadline_ms, text,
                              sizeof(text));
    if (outcome != OPB_CALL_DONE) {
        free(load.files);
        load.files = NULL;
    }
    switch (outcome) {
    case OPB_CALL_DONE:
        *files = load.files;
        return OPB_OK;
    case OPB_CALL_RAISED:
        *is_logged = true;
        note_exception(session, text);
        (void)snprintf(message, capacity, "%s", text); /* cut if it does not fit */
        status = OPB_REFUSED;
        break;
    case OPB_CALL_LATE:
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity,
                       "The host (pid %ld) has not imported the Python script %s in time: "
                       "the configuration option \"Python.ReloadTimeout\" gives it more",
                       (long)opb_session_pid(session),
                       opb_session_node(session)->config->script_path);
        status = OPB_REFUSED;
        break;
    case OPB_CALL_DIED:
        status = explain_broken(session, *lane, "imported", message, capacity);
        break;
    case OPB_CALL_ENCODING:
    case OPB_CALL_FAILED:
    case OPB_CALL_NO_HOST:
    case OPB_CALL_ABSENT:
        /* a message that does not fit is cut */
        if (text[0] != '\0') {
            (void)snprintf(message, capacity, "%s", text);
        }
        else {
            (void)snprintf(
                message, capacity,
                "The host (pid %ld) cannot load the Python script %s, and gives no "
                "reason",
                (long)opb_session_pid(session),
                opb_session_node(session)->config->script_path);
        }
        status = OPB_REFUSED;
        break;
    }
    return status;
}

bool
opb_load_finalize(struct opb_session *session, struct opb_lane *lane, uint64_t deadline_ms)
{
    const struct opb_call_io io = {.pack = pack_finalize};
    enum opb_outcome outcome;
    char message[512];
    char text[512] = "";

    outcome = opb_call_run_on(session, lane, OPB_CALL_FINALIZE_INDEX, &io, deadline_ms,
                              text, sizeof(text));
    switch (outcome) {
    case OPB_CALL_DONE:
        return true;
    case OPB_CALL_LATE:
        opb_log_warning(
            "The Python script has not finished within %u ms (threads that are not "
            "daemons, atexit functions): its host (pid %ld) is ended now; the "
            "configuration option \"Python.StopTimeout\" gives it more time",
            opb_session_node(session)->config->stop_timeout_ms,
            (long)opb_session_pid(session));
        return false;
    case OPB_CALL_DIED:
        (void)explain_broken(session, lane, "ended", message, sizeof(message));
        opb_log_warning("%s", message);
        return false;
    case OPB_CALL_RAISED:
    case OPB_CALL_ENCODING:
    case OPB_CALL_FAILED:
    case OPB_CALL_NO_HOST:
    case OPB_CALL_ABSENT:
        opb_log_warning("The host (pid %ld) could not finish the Python script: %s",
                        (long)opb_session_pid(session), text);
        return false;
    }
    return false;
}

void
opb_load_close_lane(struct opb_session *session, struct opb_lane **lane)
{
    if (*lane != NULL) {
        opb_session_forget(session, *lane);
        opb_lane_close(*lane);
        *lane = NULL;
    }
}
