/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/make_corpus.c - the inputs that the fuzzers start from
 *
 * make_corpus <fuzzer> <directory>: writes well-formed messages as our own
 * packer makes them. Called by the build; writes only into the directory.
 */
#include "protocol/handshake.h"
#include "protocol/limits.h"
#include "protocol/message.h"
#include "protocol/words.h"

#include "sdk_facts.gen.h"

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

static void
make_news(const char *directory, struct opb_message *message)
{
    opb_message_begin_notify(message, OPB_CONTROL_HOST_STARTED, 3);
    opb_pack_uint(message, 1);
    opb_pack_uint(message, 4242);
    opb_pack_uint(message, 0);
    write_input(directory, "started", "\0", 1, message, true);
    opb_message_begin_notify(message, OPB_CONTROL_HOST_DIED, 3);
    opb_pack_uint(message, 1);
    opb_pack_uint(message, 4242);
    opb_pack_cstr(message, "was killed by signal 9 (Killed)");
    write_input(directory, "died", "\0", 1, message, true);
    opb_message_begin_notify(message, OPB_CONTROL_LOG, 2);
    opb_pack_uint(message, 1);
    opb_pack_cstr(message, "a line\nof the worker");
    write_input(directory, "log", "\0", 1, message, true);
    opb_message_begin_notify(message, OPB_CONTROL_LOOKED, 3);
    opb_pack_uint(message, 7);
    opb_pack_cstr(message, "Thread 0x01 (most recent call first):\n");
    opb_pack_cstr(message, "gone");
    write_input(directory, "looked", "\0", 1, message, true);
    opb_message_begin_response(message, 1);
    opb_pack_array(message, 2);
    opb_pack_cstr(message, "node");
    opb_pack_uint(message, 1);
    write_input(directory, "attached", "\1", 1, message, true);
    opb_message_error(message, 1, OPB_FAULT_RUNTIME, 0, "the worker is stopping");
    write_input(directory, "refused", "\1", 1, message, true);
    opb_message_begin_response(message, UINT32_MAX);
    opb_pack_nil(message);
    write_input(directory, "detached", "\2", 1, message, true);
}

static void
pack_hello(struct opb_message *message, enum opb_connection_kind kind)
{
    static const char secret[OPB_SECRET_BYTES];

    opb_message_begin_request(message, 0, 6);
    opb_pack_cstr(message, OPB_PROTOCOL_MAGIC);
    opb_pack_uint(message, OPB_PROTOCOL_VERSION);
    opb_pack_uint(message, kind);
    opb_pack_cstr(message, kind == OPB_CONNECTION_CONTROL ? "" : "node");
    opb_pack_uint(message, 1);
    opb_pack_bytes(message, secret, sizeof(secret));
}

static void
make_node_words(const char *directory, struct opb_message *message)
{
    pack_hello(message, OPB_CONNECTION_CONTROL);
    write_input(directory, "control", "\0", 1, message, true);
    pack_hello(message, OPB_CONNECTION_CALL);
    write_input(directory, "call", "\0", 1, message, true);
    opb_message_begin_notify(message, OPB_CONTROL_REPLACE_HOST, 2);
    opb_pack_uint(message, 1);
    opb_pack_cstr(message, "could not load the script");
    write_input(directory, "replace", "\1", 1, message, true);
    opb_message_begin_notify(message, OPB_CONTROL_LOOK, 2);
    opb_pack_uint(message, 1);
    opb_pack_uint(message, 7);
    write_input(directory, "look", "\1", 1, message, true);
    opb_message_begin_request(message, OPB_CONTROL_DETACH, 1);
    opb_message_set_msgid(message, 2);
    opb_pack_uint(message, 1000);
    write_input(directory, "detach", "\1", 1, message, true);
    opb_message_begin_notify(message, OPB_CONTROL_START_NEXT, 2);
    opb_pack_array(message, 2);
    opb_pack_cstr(message, "/etc/passwd");
    opb_pack_cstr(message, "/etc/group");
    opb_pack_uint(message, 2);
    write_input(directory, "next", "\5", 1, message, true);
    opb_message_begin_notify(message, OPB_CONTROL_DESCRIBE, 2);
    opb_pack_array(message, 1);
    opb_pack_cstr(message, "/etc/group");
    opb_pack_bool(message, false);
    write_input(directory, "describe", "\1", 1, message, true);
    opb_message_begin_request(message, 77, 0);
    opb_message_set_msgid(message, 3);
    write_input(directory, "unknown", "\1", 1, message, true);
}

/* For each of the callbacks, the kinds of values that a result may hold. */
static void
make_results(const char *directory, struct opb_message *message)
{
    for (int which = 0; which < 9; which++) {
        const char prefix[1] = {(char)which};
        char name[32];

        (void)snprintf(name, sizeof(name), "nil-%d", which); /* all of them fit */
        opb_message_begin_response(message, 1);
        opb_pack_nil(message);
        write_input(directory, name, prefix, 1, message, true);
        (void)snprintf(name, sizeof(name), "number-%d", which);
        opb_message_begin_response(message, 1);
        opb_pack_uint(message, 1);
        write_input(directory, name, prefix, 1, message, true);
        (void)snprintf(name, sizeof(name), "bool-%d", which);
        opb_message_begin_response(message, 1);
        opb_pack_bool(message, true);
        write_input(directory, name, prefix, 1, message, true);
        (void)snprintf(name, sizeof(name), "bytes-%d", which);
        opb_message_begin_response(message, 1);
        opb_pack_bytes(message, prefix, 1);
        write_input(directory, name, prefix, 1, message, true);
        (void)snprintf(name, sizeof(name), "pair-%d", which);
        opb_message_begin_response(message, 1);
        opb_pack_array(message, 2);
        opb_pack_int(message, 2);
        opb_pack_bytes(message, "modified", 8);
        write_input(directory, name, prefix, 1, message, true);
        (void)snprintf(name, sizeof(name), "fault-%d", which);
        opb_message_error(message, 1, OPB_FAULT_RUNTIME, 0, "failed");
        write_input(directory, name, prefix, 1, message, true);
        (void)snprintf(name, sizeof(name), "call-%d", which);
        opb_message_begin_request(message, 60, 1);
        opb_pack_cstr(message, "text");
        write_input(directory, name, prefix, 1, message, true);
    }
}

static void
pack_texts(struct opb_message *message, uint32_t fact)
{
    opb_pack_uint(message, fact);
    opb_pack_array(message, 3);
    opb_pack_cstr(message, "PatientName");
    opb_pack_nil(message);
    opb_pack_cstr(message, "");
}

static void
pack_numbers(struct opb_message *message, uint32_t fact)
{
    opb_pack_uint(message, fact);
    opb_pack_array(message, 2);
    opb_pack_uint(message, 0x10);
    opb_pack_uint(message, 0x20);
}

/* Lent objects, as plugin/facts.c makes them, and as it does not. */
static void
make_facts(const char *directory, struct opb_message *message)
{
    opb_message_begin_notify(message, 1, 2);
    opb_pack_uint(message, 5);
    opb_pack_array(message, 2);
    opb_pack_uint(message, 6);
    opb_pack_map(message, 5);
    opb_pack_uint(message, OPB_FACT_FindQuery_GetFindQuerySize);
    opb_pack_uint(message, 3);
    pack_numbers(message, OPB_FACT_FindQuery_GetFindQueryTagGroup);
    pack_numbers(message, OPB_FACT_FindQuery_GetFindQueryTagElement);
    pack_texts(message, OPB_FACT_FindQuery_GetFindQueryTagName);
    pack_texts(message, OPB_FACT_FindQuery_GetFindQueryValue);
    write_input(directory, "query", "\0", 1, message, false);
    opb_message_begin_notify(message, 1, 1);
    opb_pack_array(message, 2);
    opb_pack_uint(message, 7);
    opb_pack_map(message, 3);
    opb_pack_uint(message, OPB_FACT_DicomInstance_GetInstanceOrigin);
    opb_pack_int(message, -1);
    opb_pack_uint(message, OPB_FACT_DicomInstance_GetInstanceRemoteAet);
    opb_pack_cstr(message, "PEER");
    opb_pack_uint(message, OPB_FACT_DicomInstance_GetInstanceSize);
    opb_pack_int(message, INT64_MAX);
    write_input(directory, "instance", "\0", 1, message, false);
    opb_message_begin_notify(message, 1, 1);
    opb_pack_array(message, 2);
    opb_pack_uint(message, 8);
    opb_pack_map(message, 2);
    opb_pack_uint(message, OPB_FACT_DicomInstance_GetInstanceRemoteAet);
    opb_pack_nil(message);
    pack_texts(message, OPB_FACT_Image_GetImageWidth);
    write_input(directory, "image", "\1", 1, message, false);
}

/* Calls of every function, as fuzz_invocation makes them: some right, some not. */
static void
make_calls(const char *directory)
{
    for (int method = 0; method < 255; method += 3) {
        char path[4096];
        FILE *file;

        (void)snprintf(path, sizeof(path), "%s/calls-%d", directory, method);
        file = fopen(path, "wbe");
        for (int i = 0; i < 9 && file != NULL; i++) {
            const char call[] = {(char)(method + i / 3),
                                 (char)(i % 3 == 2 ? 2 : 0),
                                 1,
                                 0,
                                 5,
                                 'h',
                                 'e',
                                 'l',
                                 'l',
                                 'o',
                                 1,
                                 2,
                                 3,
                                 4};

            (void)fwrite(call, 1, sizeof(call), file); /* fclose() reports it */
        }
        if (file == NULL || fclose(file) != 0) {
            perror(path);
            exit(1);
        }
    }
}

int
main(int argc, char **argv)
{
    struct opb_message *message = opb_message_new();

    if (argc != 3 || message == NULL) {
        (void)fprintf(stderr, "make_corpus <fuzzer> <directory>\n");
        return 1;
    }
    if (strcmp(argv[1], "frame") == 0) {
        make_messages(argv[2], message, "\x02", 1, false);
    }
    else if (strcmp(argv[1], "lane") == 0) {
        make_messages(argv[2], message, "\x01", 1, true);
    }
    else if (strcmp(argv[1], "handshake") == 0) {
        make_hellos(argv[2], message);
    }
    else if (strcmp(argv[1], "control") == 0) {
        make_news(argv[2], message);
    }
    else if (strcmp(argv[1], "pool") == 0) {
        make_node_words(argv[2], message);
    }
    else if (strcmp(argv[1], "result") == 0) {
        make_results(argv[2], message);
    }
    else if (strcmp(argv[1], "facts") == 0) {
        make_facts(argv[2], message);
    }
    else {
        make_calls(argv[2]);
    }
    opb_message_free(message);
    return 0;
}
