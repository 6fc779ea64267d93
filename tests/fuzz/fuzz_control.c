/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_control.c - any bytes as what a pool says on the control connection
 *
 * First byte: bit 0, the answer to ATTACH is the input's too; bit 1, the node has sent
 * DETACH. The rest is what the pool says before it leaves.
 */
#include "fuzz_support.h"

#include "plugin/control.h"
#include "protocol/message.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BYTES 32768u

static void
host_started(void *context, uint32_t host, pid_t pid, uint32_t worker)
{
    (void)context;
    (void)host;
    if (pid < 0 || worker >= OPB_MAX_WORKERS) {
        abort();
    }
}

static void
switched(void *context, uint32_t host)
{
    (void)context;
    (void)host;
}

static void
reload(void *context)
{
    (void)context;
}

static void
host_died(void *context, uint32_t host, pid_t pid, const char *reason)
{
    (void)context;
    (void)host;
    for (const char *c = reason; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || pid < 0) {
            abort();
        }
    }
}

/* The right answer to ATTACH. Returns its length. */
static size_t
make_attached(uint8_t *out)
{
    struct opb_message *message = opb_message_new();
    const struct iovec *parts;
    size_t part_count;
    size_t bytes = 0;

    opb_message_begin_response(message, 1);
    opb_pack_array(message, 2);
    opb_pack_cstr(message, "fuzz");
    opb_pack_uint(message, 1);
    if (opb_message_frame(message, &parts, &part_count) != OPB_OK) {
        abort();
    }
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].iov_len > 0) {
            memcpy(out + bytes, parts[i].iov_base, parts[i].iov_len);
            bytes += parts[i].iov_len;
        }
    }
    opb_message_free(message);
    return bytes;
}

static void
looked(void *context, uint32_t ticket, const char *text, const char *problem)
{
    (void)context;
    (void)ticket;
    (void)strlen(text);
    (void)strlen(problem);
}

/* The fuzzer looks at the time by SIGALRM, which ends a system call. */
static bool
wait_readable(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    int count;

    do {
        count = poll(&item, 1, 5000);
    } while (count < 0 && errno == EINTR);
    return count == 1;
}

static void
next_count(void *context, uint32_t workers)
{
    (void)context;
    if (workers > OPB_MAX_WORKERS) {
        abort();
    }
}

static void
serve_to_its_end(struct opb_control *control)
{
    for (;;) {
        enum opb_status status;
        bool has_more;

        status = opb_control_serve(control, &has_more);
        if (status != OPB_OK) {
            if (opb_control_failure(control)[0] == '\0') {
                abort();
            }
            return;
        }
        if (!has_more && !wait_readable(opb_control_fd(control))) {
            abort(); /* the peer leaves: there is an end to see */
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct opb_control_news news = {.host_started = host_started,
                                                 .host_died = host_died,
                                                 .next_started = host_started,
                                                 .switched = switched,
                                                 .reload = reload,
                                                 .next_count = next_count,
                                                 .looked = looked,
                                                 .leaving = reload};
    static uint8_t said[MAX_BYTES + 64];
    struct opb_node *node = fuzz_node();
    struct opb_control *control = NULL;
    char message[512];
    size_t bytes = 0;

    if (size < 1 || size > MAX_BYTES) {
        return 0;
    }
    fuzz_peer_says(NULL, 0); /* so that none reads what is written now */
    if ((data[0] & 1u) == 0) {
        bytes = make_attached(said);
    }
    memcpy(said + bytes, data + 1, size - 1);
    fuzz_peer_says(said, bytes + size - 1);
    if (opb_control_open(&control, node, "/nowhere", true, &news, opb_deadline_ms(5000),
                         message, sizeof(message)) != OPB_OK) {
        if (message[0] == '\0' || control != NULL) {
            abort();
        }
        return 0;
    }
    if ((data[0] & 2u) == 0 ||
        opb_control_detach(control, 1000, opb_deadline_ms(5000)) == OPB_OK) {
        serve_to_its_end(control);
    }
    opb_control_close(control);
    return 0;
}
