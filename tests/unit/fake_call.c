/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_call.c - see fake_call.h */
#include "fake_call.h"

#include "support.h"

#include "protocol/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

OPB_PRINTF(2, 3)
static void
add(struct fake_call *out, const char *format, ...)
{
    va_list args;
    int bytes;

    va_start(args, format);
    bytes = vsnprintf(out->text + out->used, sizeof(out->text) - out->used, format, args);
    va_end(args);
    assert_true(bytes >= 0 && (size_t)bytes < sizeof(out->text) - out->used);
    out->used += (size_t)bytes;
}

static void
describe_bytes(struct fake_call *out, char code, const char *data, size_t bytes)
{
    if (!out->has_order) {
        (void)snprintf(out->order, sizeof(out->order), "%.*s",
                       bytes > 200 ? 200 : (int)bytes, data);
        out->has_order = true;
    }
    if (bytes > 100) {
        add(out, "%c<%zu bytes>", code, bytes);
        return;
    }
    add(out, "%c'", code);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)data[i];

        if (byte < 0x20 || byte >= 0x7f) {
            add(out, "\\x%02x", byte);
        }
        else {
            add(out, "%c", byte);
        }
    }
    add(out, "'");
}

static void
describe_text(struct fake_call *out, struct opb_reader *reader)
{
    struct opb_reader as_bytes = *reader;
    size_t bytes;
    const char *data = opb_read_str(reader, &bytes);

    if (reader->status != OPB_OK) {
        *reader = as_bytes;
        data = opb_read_bytes(reader, &bytes);
    }
    describe_bytes(out, 's', data, bytes);
}

/* Reads one parameter of that code. */
static void
describe_one(struct fake_call *out, char code, struct opb_reader *reader)
{
    const void *data;
    size_t bytes;

    switch (code) {
    case 's':
        describe_text(out, reader);
        return;
    case 'b':
    case 'p':
        data = opb_read_bytes(reader, &bytes);
        describe_bytes(out, 'b', data, bytes);
        return;
    case 'f':
        add(out, "f%.9g", opb_read_double(reader));
        return;
    case 'e':
    case 'i':
        add(out, "%c%lld", code, (long long)opb_read_int(reader, INT32_MIN, INT32_MAX));
        return;
    case 'l':
        add(out, "l%lld", (long long)opb_read_int(reader, INT64_MIN, INT64_MAX));
        return;
    case 'N':
        if (opb_read_is_nil(reader)) {
            opb_read_skip(reader);
            add(out, "nil");
            return;
        }
        break;
    default:
        break;
    }
    add(out, "%c%llu", code, (unsigned long long)opb_read_uint(reader, UINT64_MAX));
}

static void
describe_call(struct fake_call *out, const struct opb_node_function *function,
              struct opb_frame *frame)
{
    const char *code = function->signature;
    struct opb_reader reader;

    opb_frame_params(frame, &reader);
    add(out, "%s(", function->name);
    for (; *code != ':'; code++) {
        describe_one(out, *code, &reader);
        if (*code == 'O' || *code == 'N') {
            code = strchr(code, ';');
        }
        if (code[1] != ':') {
            add(out, ", ");
        }
    }
    add(out, ")");
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
}

/* _Fence, _Register and _Release, which have no signature. */
static void
describe_special(struct opb_fake_node *node, struct fake_call *out,
                 const struct opb_node_function *function, struct opb_frame *frame)
{
    struct opb_reader reader;

    opb_frame_params(frame, &reader);
    if (strcmp(function->name, OPB_FUNCTION_REGISTER) == 0) {
        const char *kind = opb_read_cstr(&reader, false);
        const char *pattern = opb_read_cstr(&reader, true);

        add(out, "_Register(%s, %.1000s, %llu)", kind, pattern == NULL ? "nil" : pattern,
            (unsigned long long)opb_read_uint(&reader, UINT32_MAX));
        (void)snprintf(out->order, sizeof(out->order), "%s",
                       pattern == NULL ? "" : pattern);
        return;
    }
    if (strcmp(function->name, OPB_FUNCTION_FENCE) == 0) {
        uint64_t number = opb_read_uint(&reader, UINT64_MAX);

        add(out, "_Fence(%llu, %llu)", (unsigned long long)number,
            (unsigned long long)opb_read_uint(&reader, 1));
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
        return;
    }
    add(out, "_Release(%u)", reader.left);
    while (reader.left > 0) {
        opb_fake_node_release(node, opb_read_uint(&reader, UINT64_MAX));
    }
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
}

void
opb_fake_call_describe(struct opb_fake_node *node, struct fake_call *out,
                       const struct opb_node_function *function, struct opb_frame *frame)
{
    memset(out, 0, sizeof(*out));
    if (function->name[0] == '_') {
        describe_special(node, out, function, frame);
    }
    else {
        describe_call(out, function, frame);
    }
}

static void
pack_result(struct opb_fake_node *node, struct opb_message *message, const char *signature,
            const struct fake_call *call)
{
    static const int dictionary[] = {16, 32, 11, 1, 1};

    switch (strchr(signature, ':')[1]) {
    case 's':
    case 'z':
        opb_pack_cstr(message, call->text);
        return;
    case 'b':
        opb_pack_bytes(message, call->text, call->used);
        return;
    case 'i':
        opb_pack_int(message, 42);
        return;
    case 'B':
        opb_pack_bool(message, true);
        return;
    case 'O':
        opb_pack_uint(message, opb_fake_node_make(node));
        return;
    case 'x':
        if (strncmp(call->text, "LookupDictionary", 16) == 0) {
            opb_pack_array(message, 5);
            for (size_t i = 0; i < 5; i++) {
                opb_pack_int(message, dictionary[i]);
            }
            return;
        }
        if (strncmp(call->text, "ReserveQueueValue", 17) == 0) {
            opb_pack_array(message, 2);
            opb_pack_bytes(message, "reserved", 8);
            opb_pack_uint(message, UINT64_MAX);
            return;
        }
        if (strncmp(call->text, "SetStableStatus", 15) == 0) {
            opb_pack_array(message, 2);
            opb_pack_int(message, 0);
            opb_pack_int(message, 1);
            return;
        }
        break;
    default:
        break;
    }
    opb_pack_nil(message);
}

void
opb_fake_call_answer(struct opb_fake_node *node, struct opb_message *message,
                     uint32_t msgid, const char *signature, const struct fake_call *call,
                     void **kept)
{
    unsigned int number;
    char text[200];
    int code;

    if (sscanf(call->order, "fault:%u:%d:%199[^\n]", &number, &code, text) == 3) {
        opb_message_error(message, msgid, (enum opb_fault)number, code, text);
        return;
    }
    opb_message_begin_response(message, msgid);
    if (sscanf(call->order, "big:%u", &number) == 1) {
        *kept = malloc(number);
        assert_non_null(*kept);
        memset(*kept, 'x', number);
        opb_pack_bytes(message, *kept, number);
    }
    else if (strcmp(call->order, "none") == 0) {
        opb_pack_nil(message);
    }
    else if (strcmp(call->order, "wrong") == 0) {
        opb_pack_map(message, 0);
    }
    else {
        pack_result(node, message, signature, call);
    }
}
