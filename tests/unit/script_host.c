/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/script_host.c - a host program without Python, for the tests of the plugin's
 * life
 *
 * Takes lanes as the real one does. What Load does is the first word of the "script":
 *   ok      loads
 *   raise   the script raises
 *   refuse  the script cannot be used
 *   exit    the process ends with code 7
 *   once    loads in the first host only, and raises in later ones
 *   odd     the same for worker 1; others load
 *   stay    loads, and never answers Finalize
 *   service as ok, after a service lane to the node was welcomed
 *   wait    never ends to load, having made the mark
 *   alone   raises if another process has loaded the script and lives; else as ok
 * Anything on a call lane makes the process end by SIGKILL.
 */
#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONTROL_FD  3
#define PATIENCE_MS 20000u

struct details {
    char script[256];
    char node_socket[128];
    uint32_t worker;
    struct opb_hello hello;
};

static void
check(int is_right, const char *what)
{
    if (!is_right) {
        (void)fprintf(stderr, "script_host: %s\n", what);
        abort();
    }
}

/* The map of Load, as far as it matters here. */
static void
read_load(struct opb_frame *frame, struct details *out)
{
    struct opb_reader params;
    struct opb_reader map;
    uint32_t count;

    memset(out, 0, sizeof(*out));
    out->hello.version = OPB_PROTOCOL_VERSION;
    out->hello.kind = OPB_CONNECTION_SERVICE;
    opb_frame_params(frame, &params);
    count = opb_read_map(&params, &map);
    check(count == 14, "Load has another number of keys");
    for (uint32_t i = 0; i < count; i++) {
        const char *key = opb_read_cstr(&map, false);

        if (strcmp(key, "scripts") == 0) {
            struct opb_reader paths;

            check(opb_read_array(&map, &paths) == 1, "Load has another number of scripts");
            (void)snprintf(out->script, sizeof(out->script), "%s",
                           opb_read_cstr(&paths, false));
        }
        else if (strcmp(key, "node_socket") == 0) {
            (void)snprintf(out->node_socket, sizeof(out->node_socket), "%s",
                           opb_read_cstr(&map, false));
        }
        else if (strcmp(key, "node") == 0) {
            (void)snprintf(out->hello.node, sizeof(out->hello.node), "%s",
                           opb_read_cstr(&map, false));
        }
        else if (strcmp(key, "worker_index") == 0) {
            out->worker = (uint32_t)opb_read_uint(&map, UINT32_MAX);
        }
        else if (strcmp(key, "host") == 0) {
            out->hello.host = (uint32_t)opb_read_uint(&map, UINT32_MAX);
        }
        else if (strcmp(key, "secret") == 0) {
            size_t bytes;
            const void *secret = opb_read_bytes(&map, &bytes);

            check(bytes == OPB_SECRET_BYTES, "the secret has another size");
            memcpy(out->hello.secret, secret, OPB_SECRET_BYTES);
        }
        else {
            opb_read_skip(&map);
        }
    }
    check(opb_reader_finish(&params) == OPB_OK && opb_reader_finish(&map) == OPB_OK,
          "Load is malformed");
}

static void
open_service_lane(const struct details *details)
{
    uint64_t deadline_ms = opb_deadline_ms(PATIENCE_MS);
    struct opb_lane *lane;
    uint32_t version;
    int fd;

    check(opb_socket_connect(&fd, details->node_socket, deadline_ms) == OPB_OK, "no node");
    check(opb_lane_open(&lane, &fd, &opb_segment_malloc) == OPB_OK, "no lane");
    check(opb_hello_send(lane, &details->hello, deadline_ms) == OPB_OK, "no hello");
    check(opb_welcome_receive(lane, &version, deadline_ms) == OPB_OK, "no welcome");
    opb_lane_close(lane);
}

static bool
is_first(const char *script)
{
    char mark[300];
    FILE *file;

    (void)snprintf(mark, sizeof(mark), "%s.mark", script);
    file = fopen(mark, "wx");
    if (file != NULL) {
        (void)fclose(file);
    }
    return file != NULL;
}

/* Takes a name that the kernel gives to one process only, until it ends; workers of one
 * generation have one each. */
static bool
is_alone(const struct details *details)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX}; /* its first byte is 0: no file */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd >= 0, "no socket");
    (void)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "%.80s.%u",
                   details->script, details->worker);
    return bind(fd, (const struct sockaddr *)&name, sizeof(name)) == 0; /* stays open */
}

/* Builds the answer to Load. */
static void
load(struct opb_frame *frame, struct opb_message *message, char word[16])
{
    uint32_t msgid = opb_frame_msgid(frame);
    struct details details;
    FILE *file;

    read_load(frame, &details);
    file = fopen(details.script, "r");
    check(file != NULL && fscanf(file, "%15s", word) == 1, "no script");
    (void)fclose(file);
    if (strcmp(word, "exit") == 0) {
        _exit(7);
    }
    if (strcmp(word, "wait") == 0) {
        (void)is_first(details.script);
        for (;;) {
            (void)pause();
        }
    }
    if (strcmp(word, "service") == 0) {
        open_service_lane(&details);
    }
    if (strcmp(word, "raise") == 0 || (strcmp(word, "alone") == 0 && !is_alone(&details)) ||
        (strcmp(word, "once") == 0 && !is_first(details.script)) ||
        (strcmp(word, "odd") == 0 && details.worker == 1 && !is_first(details.script))) {
        opb_message_error(message, msgid, OPB_FAULT_RAISED, 1, "");
        return;
    }
    if (strcmp(word, "refuse") == 0) {
        opb_message_error(message, msgid, OPB_FAULT_RUNTIME, 0,
                          "this script cannot be used");
        return;
    }
    opb_message_begin_response(message, msgid);
    opb_pack_nil(message);
}

static void *
run_lane(void *argument)
{
    struct opb_lane *lane = argument;
    struct opb_message *message = opb_message_new();
    struct opb_frame *frame;
    char word[16] = "";

    check(message != NULL && opb_welcome_send(lane, OPB_FOREVER) == OPB_OK, "no welcome");
    while (opb_lane_receive(lane, &frame, OPB_FOREVER) == OPB_OK) {
        uint32_t method = opb_frame_method(frame);

        if (method == 0) {
            load(frame, message, word);
        }
        else if (method == 1 && strcmp(word, "stay") != 0) {
            opb_message_begin_response(message, opb_frame_msgid(frame));
            opb_pack_nil(message);
        }
        else if (method != 1) {
            (void)raise(SIGKILL);
        }
        if (method == 0 || strcmp(word, "stay") != 0) {
            check(opb_lane_send(lane, message, OPB_FOREVER) == OPB_OK, "no answer");
        }
        opb_frame_free(frame);
        if (method == 1 && strcmp(word, "stay") != 0) {
            _exit(0);
        }
    }
    opb_message_free(message);
    opb_lane_close(lane);
    return NULL;
}

int
main(void)
{
    for (;;) {
        struct opb_lane *lane = NULL;
        pthread_t thread;
        size_t count;
        char kind;
        int fd;

        if (opb_socket_take(CONTROL_FD, &kind, 1, &count, &fd) != OPB_OK) {
            return 0; /* the pool is gone */
        }
        check(fd >= 0 && opb_lane_open(&lane, &fd, &opb_segment_malloc) == OPB_OK,
              "no lane");
        check(pthread_create(&thread, NULL, run_lane, lane) == 0, "no thread");
        (void)pthread_detach(thread);
    }
}
