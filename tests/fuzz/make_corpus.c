/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/make_corpus.c - the inputs that the fuzzers start from
 *
 * make_corpus frame|lane|handshake <directory>: writes well-formed messages as our own
 * packer makes them. Called by the build; writes only into the directory.
 */
#include "protocol/handshake.h"
#include "protocol/limits.h"
#include "protocol/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* Writes one input: what the fuzzer reads first, then the frame (with its header or not).
 */
static void
write_input(const char *directory, const char *name, const char *prefix,
            size_t prefix_bytes, struct opb_message *message, bool with_header)
{
    char path[4096];
    const struct iovec *parts;
    size_t part_count;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    file = fopen(path, "wbe");
    if (file == NULL || opb_message_frame(message, &parts, &part_count) != OPB_OK) {
        perror(path);
        exit(1);
    }
    (void)fwrite(prefix, 1, prefix_bytes, file); /* fclose() reports what went wrong */
    for (size_t i = with_header ? 0 : 1; i < part_count; i++) {
        (void)fwrite(parts[i].iov_base, 1, parts[i].iov_len, file);
    }
    if (ferror(file) || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void
pack_call(struct opb_message *message)
{
    opb_message_begin_request(message, 7, 8);
    opb_pack_nil(message);
    opb_pack_bool(message, true);
    opb_pack_int(message, -70000);
    opb_pack_uint(message, UINT64_MAX);
    opb_pack_double(message, 0.25);
    opb_pack_bytes(message, "bytes", 5);
    opb_pack_array(message, 2);
    opb_pack_cstr(message, "a");
    opb_pack_cstr(message, "");
    opb_pack_map(message, 1);
    opb_pack_cstr(message, "key");
    opb_pack_cstr(message, "value");
    opb_message_set_msgid(message, 1);
}

static void
make_messages(const char *directory, struct opb_message *message, const char *prefix,
              size_t prefix_bytes, bool with_header)
{
    static const char body[OPB_INLINE_BYTES + 1];

    pack_call(message);
    write_input(directory, "request", prefix, prefix_bytes, message, with_header);
    opb_message_begin_response(message, 1);
    opb_pack_cstr(message, "result");
    write_input(directory, "response", prefix, prefix_bytes, message, with_header);
    opb_message_error(message, 1, OPB_FAULT_ORTHANC, -1, "Unknown resource");
    write_input(directory, "fault", prefix, prefix_bytes, message, with_header);
    opb_message_begin_notify(message, 3, 0);
    write_input(directory, "notification", prefix, prefix_bytes, message, with_header);
    opb_message_begin_notify(message, 3, 2);
    opb_pack_bytes(message, body, sizeof(body));
    opb_pack_bytes(message, body, sizeof(body));
    write_input(directory, "segments", prefix, prefix_bytes, message, with_header);
}

static void
make_hellos(const char *directory, struct opb_message *message)
{
    static const char secret[OPB_SECRET_BYTES];

    opb_message_begin_request(message, 0, 6);
    opb_pack_cstr(message, OPB_PROTOCOL_MAGIC);
    opb_pack_uint(message, OPB_PROTOCOL_VERSION);
    opb_pack_uint(message, OPB_CONNECTION_CALL);
    opb_pack_cstr(message, "node");
    opb_pack_uint(message, 1);
    opb_pack_bytes(message, secret, sizeof(secret));
    write_input(directory, "hello", "", 0, message, true);
    opb_message_begin_response(message, 0);
    opb_pack_array(message, 1);
    opb_pack_uint(message, OPB_PROTOCOL_VERSION);
    write_input(directory, "welcome", "", 0, message, true);
    opb_message_error(message, 0, OPB_FAULT_PROTOCOL, OPB_PROTOCOL_VERSION, "no");
    write_input(directory, "refusal", "", 0, message, true);
}

int
main(int argc, char **argv)
{
    struct opb_message *message = opb_message_new();

    if (argc != 3 || message == NULL) {
        (void)fprintf(stderr, "make_corpus frame|lane|handshake <directory>\n");
        return 1;
    }
    if (strcmp(argv[1], "frame") == 0) {
        make_messages(argv[2], message, "\x02", 1, false);
    }
    else if (strcmp(argv[1], "lane") == 0) {
        make_messages(argv[2], message, "\x01", 1, true);
    }
    else {
        make_hellos(argv[2], message);
    }
    opb_message_free(message);
    return 0;
}
