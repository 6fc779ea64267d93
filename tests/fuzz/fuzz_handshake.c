/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_handshake.c - any bytes as a hello and as a welcome */
#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_hello(const uint8_t *data, size_t size)
{
    struct opb_frame *frame;
    struct opb_hello hello;
    enum opb_status status;

    if (opb_frame_decode(&frame, data, size) != OPB_OK) {
        return;
    }
    status = opb_hello_decode(frame, &hello);
    if (status != OPB_OK && status != OPB_BAD_FRAME && status != OPB_VERSION) {
        abort();
    }
    if (status == OPB_OK && (strlen(hello.node) > OPB_NODE_NAME_BYTES ||
                             hello.version != OPB_PROTOCOL_VERSION)) {
        abort();
    }
    opb_frame_free(frame);
}

static void
read_welcome(const uint8_t *data, size_t size)
{
    struct opb_lane *lane;
    enum opb_status status;
    uint32_t version;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return;
    }
    if (opb_lane_open(&lane, &fds[0], &opb_segment_malloc) != OPB_OK) {
        abort();
    }
    if (send(fds[1], data, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size ||
        shutdown(fds[1], SHUT_WR) != 0) {
        abort();
    }
    status = opb_welcome_receive(lane, &version, opb_deadline_ms(1000));
    if (status != opb_lane_status(lane) ||
        (status == OPB_OK && version != OPB_PROTOCOL_VERSION)) {
        abort();
    }
    for (const char *next = opb_lane_failure(lane); *next != '\0'; next++) {
        if ((unsigned char)*next < 0x20) {
            abort(); /* a peer writes no lines into our log */
        }
    }
    opb_lane_close(lane);
    (void)close(fds[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 65536) {
        return 0;
    }
    read_hello(data, size);
    read_welcome(data, size);
    return 0;
}
