/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_invocation.c - SDK calls as a host may send them
 *
 * The input is a list of calls. First byte: the function. Second: bit 0, it is posted; bit
 * 1, its arguments are what the input says and not what the signature wants; bits 2 to 4,
 * arguments too many. Then what each argument is made of.
 */
#include "fuzz_support.h"

#include "plugin/handles.h"
#include "plugin/invocation.h"
#include "protocol/lane.h"
#include "protocol/sockets.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_CALLS 32
#define LENT      4

struct input {
    const uint8_t *data;
    size_t left;
};

/* Lent to every input: an object of each of the classes that calls lend. */
static uint64_t lent[LENT];
static uint8_t objects[LENT][256];
static void *image;

static uint64_t
take(struct input *input, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++) {
        value = value << 8 | (input->left > 0 ? *input->data : 0);
        if (input->left > 0) {
            input->data++;
            input->left--;
        }
    }
    return value;
}

static void
pack_bulk(struct opb_message *message, struct input *input, bool is_text)
{
    size_t bytes = take(input, 1);

    if (bytes > input->left) {
        bytes = input->left;
    }
    if (is_text) {
        opb_pack_str(message, (const char *)input->data, bytes);
    }
    else {
        opb_pack_bytes(message, input->data, bytes);
    }
    input->data += bytes;
    input->left -= bytes;
}

/* What a peer may put anywhere. */
static void
pack_any(struct opb_message *message, struct input *input)
{
    static const uint8_t large[OPB_INLINE_BYTES + 1] = {1};

    switch (take(input, 1) % 10) {
    case 0:
        opb_pack_nil(message);
        break;
    case 1:
        opb_pack_bool(message, true);
        break;
    case 2:
        opb_pack_int(message, (int64_t)take(input, 8));
        break;
    case 3:
        opb_pack_uint(message, take(input, 8));
        break;
    case 4:
        opb_pack_double(message, (double)take(input, 8) * 1e300);
        break;
    case 5:
        pack_bulk(message, input, true);
        break;
    case 6:
        pack_bulk(message, input, false);
        break;
    case 7:
        opb_pack_uint(message, lent[take(input, 1) % LENT]);
        break;
    case 8:
        opb_pack_bytes(message, large, sizeof(large)); /* a segment */
        break;
    default:
        opb_pack_array(message, 1);
        opb_pack_uint(message, take(input, 1));
        break;
    }
}

/* A value of the type that the code of a signature stands for. */
static void
pack_right(struct opb_message *message, struct input *input, char code)
{
    switch (code) {
    case 's':
        pack_bulk(message, input, take(input, 1) % 8 != 0);
        break;
    case 'b':
    case 'p':
        pack_bulk(message, input, false);
        break;
    case 'O':
    case 'N':
        if (take(input, 1) % 4 == 0) {
            pack_any(message, input);
        }
        else {
            opb_pack_uint(message, lent[take(input, 1) % LENT]);
        }
        break;
    case 'f':
        opb_pack_double(message, (double)take(input, 4) - 1e9);
        break;
    case 'e':
    case 'i':
        opb_pack_int(message, (int64_t)take(input, 1) - 8);
        break;
    default:
        opb_pack_uint(message, take(input, take(input, 1) % 2 == 0 ? 1 : 4));
        break;
    }
}

static uint32_t
count_codes(const char *signature)
{
    uint32_t count = 0;

    for (const char *c = signature; *c != '\0' && *c != ':'; c++) {
        if (*c == 'O' || *c == 'N') {
            c += strcspn(c, ";");
        }
        count++;
    }
    return count;
}

static void
pack_call(struct opb_message *message, struct input *input)
{
    uint32_t method = (uint32_t)take(input, 1) % (opb_sdk_function_count + 1);
    uint8_t how = (uint8_t)take(input, 1);
    const char *code =
        method < opb_sdk_function_count ? opb_sdk_functions[method].signature : ":v";
    uint32_t more = how >> 2 & 7u;
    uint32_t count = count_codes(code) + more;

    if ((how & 1u) != 0) {
        opb_message_begin_notify(message, method, count);
    }
    else {
        opb_message_begin_request(message, method, count);
        opb_message_set_msgid(message, 7);
    }
    for (uint32_t i = 0; i < count; i++) {
        if ((how & 2u) != 0 || i >= count - more) {
            pack_any(message, input);
        }
        else {
            pack_right(message, input, *code);
            code += *code == 'O' || *code == 'N' ? strcspn(code, ";") + 1 : 1;
        }
    }
}

/* What was packed, as it arrives. */
static struct opb_frame *
to_frame(struct opb_message *message)
{
    struct opb_frame *frame = NULL;
    const struct iovec *parts;
    size_t part_count;
    size_t bytes = 0;
    uint8_t *whole;

    if (opb_message_frame(message, &parts, &part_count) != OPB_OK) {
        return NULL;
    }
    for (size_t i = 0; i < part_count; i++) {
        bytes += parts[i].iov_len;
    }
    whole = malloc(bytes);
    bytes = 0;
    for (size_t i = 0; i < part_count && whole != NULL; i++) {
        if (parts[i].iov_len > 0) {
            memcpy(whole + bytes, parts[i].iov_base, parts[i].iov_len);
            bytes += parts[i].iov_len;
        }
    }
    if (whole == NULL || opb_frame_decode(&frame, whole, bytes) != OPB_OK) {
        frame = NULL; /* what our packer takes and no reader does: text that is not UTF-8 */
    }
    free(whole);
    return frame;
}

/* Takes the one response of a request, or checks that a post has none. */
static void
read_response(struct opb_lane *lane, bool is_request)
{
    struct opb_frame *frame = NULL;
    enum opb_status status = opb_lane_receive(lane, &frame, opb_clock_ms());

    if ((status == OPB_OK) != is_request ||
        (is_request &&
         (opb_frame_type(frame) != OPB_RESPONSE || opb_frame_msgid(frame) != 7))) {
        abort();
    }
    opb_frame_free(frame);
}

static void
lend_objects(void)
{
    static const enum opb_class classes[LENT] = {OPB_CLASS_RestOutput, OPB_CLASS_Image,
                                                 OPB_CLASS_DicomInstance,
                                                 OPB_CLASS_FindQuery};

    if (image == NULL) {
        image = fuzz_image();
    }
    for (size_t i = 0; i < LENT; i++) {
        lent[i] = opb_handle_lend(opb_session_handles(fuzz_session()), classes[i],
                                  classes[i] == OPB_CLASS_Image ? image : objects[i]);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .left = size};
    struct opb_message *message = opb_message_new();
    struct opb_message *answer = opb_message_new();
    enum opb_status status = OPB_OK;
    struct opb_lane *lane = NULL;
    struct opb_lane *far = NULL;
    int fds[2];

    (void)fuzz_node();
    fuzz_let_script_log();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0 ||
        opb_lane_open(&lane, &fds[0], &opb_segment_malloc) != OPB_OK ||
        opb_lane_open(&far, &fds[1], &opb_segment_malloc) != OPB_OK || message == NULL ||
        answer == NULL) {
        abort();
    }
    opb_lane_trust(far);
    lend_objects();
    for (int i = 0; i < MAX_CALLS && input.left > 0 && status == OPB_OK; i++) {
        struct opb_frame *frame;

        pack_call(message, &input);
        frame = to_frame(message);
        if (frame == NULL) {
            continue;
        }
        status =
            opb_invocation_run(fuzz_session(), lane, frame, answer, opb_deadline_ms(5000));
        if (status == OPB_OK) {
            read_response(far, opb_frame_type(frame) == OPB_REQUEST);
        }
        opb_frame_free(frame);
    }
    for (size_t i = 0; i < LENT; i++) {
        opb_handle_end(opb_session_handles(fuzz_session()), lent[i]);
    }
    opb_lane_close(lane);
    opb_lane_close(far);
    opb_message_free(message);
    opb_message_free(answer);
    return 0;
}
