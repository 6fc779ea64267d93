/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/node_info.c - what the node says in Load, out of its map and into one
 *
 * Here:      keys, types and presence. Before there is a Python. The same map tells a child
 *            process of a host what it needs.
 * Elsewhere: using it (worker/host, link.c), giving it to child processes
 *            (worker/host/environment.c, child.c).
 * A key that this version does not know is left alone: a newer node may send more.
 */
#include "worker/module/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct key {
    const char *name;
    void (*read)(struct opb_reader *reader, struct opb_node_info *info);
    void (*pack)(struct opb_message *message, const struct opb_node_info *info);
};

void
opb_node_info_free(struct opb_node_info *info)
{
    if (info == NULL) {
        return;
    }
    for (uint32_t i = 0; i < info->function_count; i++) {
        free(info->functions[i].name);
        free(info->functions[i].signature);
    }
    for (uint32_t i = 0; i < info->call_count; i++) {
        free(info->calls[i]);
    }
    free(info->functions);
    free(info->calls);
    free(info->version_text);
    free(info->node);
    free(info->node_socket);
    free(info->orthanc_path);
    for (uint32_t i = 0; i < info->script_count; i++) {
        free(info->scripts[i]);
    }
    free(info->scripts);
    explicit_bzero(info->secret, sizeof(info->secret));
    free(info);
}

/* Copies a string; without memory the reader fails. */
static void
read_text(struct opb_reader *reader, char **out)
{
    const char *text = opb_read_cstr(reader, false);

    if (reader->status != OPB_OK || *out != NULL) {
        reader->status = OPB_BAD_FRAME; /* the key twice, or no text */
        return;
    }
    *out = strdup(text);
    if (*out == NULL) {
        reader->status = OPB_NO_MEMORY;
    }
}

static void
read_version(struct opb_reader *reader, struct opb_node_info *info)
{
    unsigned parts[3] = {0, 0, 0};

    read_text(reader, &info->version_text);
    if (reader->status != OPB_OK) {
        return;
    }
    if (sscanf(info->version_text, "%3u.%3u.%3u", &parts[0], &parts[1], &parts[2]) < 2) {
        info->version = UINT32_MAX; /* "mainline": newer than every release */
    }
    else {
        info->version = parts[0] * 1000000u + parts[1] * 1000u + parts[2];
    }
}

static void
read_functions(struct opb_reader *reader, struct opb_node_info *info)
{
    struct opb_reader items;
    uint32_t count = opb_read_array(reader, &items);

    if (reader->status != OPB_OK || info->functions != NULL) {
        reader->status = OPB_BAD_FRAME;
        return;
    }
    info->functions = calloc(count + 1u, sizeof(*info->functions));
    if (info->functions == NULL) {
        reader->status = OPB_NO_MEMORY;
        return;
    }
    info->function_count = count;
    for (uint32_t i = 0; i < count && items.status == OPB_OK; i++) {
        struct opb_reader pair;

        (void)opb_read_array(&items, &pair); /* a wrong count shows in the finish below */
        read_text(&pair, &info->functions[i].name);
        read_text(&pair, &info->functions[i].signature);
        if (items.status == OPB_OK) {
            items.status = opb_reader_finish(&pair);
        }
    }
    reader->status = items.status;
}

static void
read_calls(struct opb_reader *reader, struct opb_node_info *info)
{
    struct opb_reader items;
    uint32_t count = opb_read_array(reader, &items);

    if (reader->status != OPB_OK || info->calls != NULL) {
        reader->status = OPB_BAD_FRAME;
        return;
    }
    info->calls = calloc(count + 1u, sizeof(*info->calls));
    if (info->calls == NULL) {
        reader->status = OPB_NO_MEMORY;
        return;
    }
    info->call_count = count;
    for (uint32_t i = 0; i < count && items.status == OPB_OK; i++) {
        read_text(&items, &info->calls[i]);
    }
    reader->status = items.status;
    if (reader->status == OPB_OK && (count == 0 || strcmp(info->calls[0], "Load") != 0)) {
        reader->status = OPB_BAD_FRAME;
    }
}

static void
read_scripts(struct opb_reader *reader, struct opb_node_info *info)
{
    struct opb_reader items;
    uint32_t count = opb_read_array(reader, &items);
    size_t bytes = 0;

    if (reader->status != OPB_OK || info->scripts != NULL || count == 0 ||
        count > OPB_MAX_SCRIPTS) {
        reader->status = OPB_BAD_FRAME;
        return;
    }
    info->scripts = calloc(count, sizeof(*info->scripts));
    if (info->scripts == NULL) {
        reader->status = OPB_NO_MEMORY;
        return;
    }
    for (uint32_t i = 0; i < count && items.status == OPB_OK; i++) {
        read_text(&items, &info->scripts[i]);
        if (items.status == OPB_OK) {
            info->script_count++;
            bytes += strlen(info->scripts[i]) + 1;
        }
    }
    reader->status = bytes > OPB_MAX_SCRIPT_BYTES ? OPB_BAD_FRAME : items.status;
}

static void
read_verbose(struct opb_reader *reader, struct opb_node_info *info)
{
    info->verbose = opb_read_bool(reader);
}

static void
read_memory_usage(struct opb_reader *reader, struct opb_node_info *info)
{
    info->memory_usage = opb_read_bool(reader);
}

static void
read_node_socket(struct opb_reader *reader, struct opb_node_info *info)
{
    read_text(reader, &info->node_socket);
}

static void
read_node(struct opb_reader *reader, struct opb_node_info *info)
{
    read_text(reader, &info->node);
}

static void
read_host(struct opb_reader *reader, struct opb_node_info *info)
{
    info->host = (uint32_t)opb_read_uint(reader, UINT32_MAX);
}

static void
read_secret(struct opb_reader *reader, struct opb_node_info *info)
{
    size_t bytes = 0;
    const void *data = opb_read_bytes(reader, &bytes);

    if (reader->status == OPB_OK && bytes != sizeof(info->secret)) {
        reader->status = OPB_BAD_FRAME;
    }
    if (reader->status == OPB_OK) {
        memcpy(info->secret, data, sizeof(info->secret));
    }
}

static void
read_orthanc(struct opb_reader *reader, struct opb_node_info *info)
{
    read_text(reader, &info->orthanc_path);
}

static void
read_worker_index(struct opb_reader *reader, struct opb_node_info *info)
{
    info->worker_index = (uint32_t)opb_read_uint(reader, UINT32_MAX);
}

static void
read_workers_count(struct opb_reader *reader, struct opb_node_info *info)
{
    info->workers_count = (uint32_t)opb_read_uint(reader, UINT32_MAX);
}

static void
read_slow_call(struct opb_reader *reader, struct opb_node_info *info)
{
    info->slow_call_ms = (uint32_t)opb_read_uint(reader, UINT32_MAX);
}

static void
pack_functions(struct opb_message *message, const struct opb_node_info *info)
{
    opb_pack_array(message, info->function_count);
    for (uint32_t i = 0; i < info->function_count; i++) {
        opb_pack_array(message, 2);
        opb_pack_cstr(message, info->functions[i].name);
        opb_pack_cstr(message, info->functions[i].signature);
    }
}

static void
pack_calls(struct opb_message *message, const struct opb_node_info *info)
{
    opb_pack_array(message, info->call_count);
    for (uint32_t i = 0; i < info->call_count; i++) {
        opb_pack_cstr(message, info->calls[i]);
    }
}

static void
pack_scripts(struct opb_message *message, const struct opb_node_info *info)
{
    opb_pack_array(message, info->script_count);
    for (uint32_t i = 0; i < info->script_count; i++) {
        opb_pack_cstr(message, info->scripts[i]);
    }
}

static void
pack_secret(struct opb_message *message, const struct opb_node_info *info)
{
    opb_pack_bytes(message, info->secret, sizeof(info->secret));
}

#define PACK(name, function, member)                                                       \
    static void pack_##name(struct opb_message *message, const struct opb_node_info *info) \
    {                                                                                      \
        function(message, info->member);                                                   \
    }

PACK(version, opb_pack_cstr, version_text)
PACK(verbose, opb_pack_bool, verbose)
PACK(memory_usage, opb_pack_bool, memory_usage)
PACK(node_socket, opb_pack_cstr, node_socket)
PACK(node, opb_pack_cstr, node)
PACK(host, opb_pack_uint, host)
PACK(orthanc, opb_pack_cstr, orthanc_path)
PACK(worker_index, opb_pack_uint, worker_index)
PACK(workers_count, opb_pack_uint, workers_count)
PACK(slow_call, opb_pack_uint, slow_call_ms)

static const struct key keys[] = {
    {"version", read_version, pack_version},
    {"functions", read_functions, pack_functions},
    {"calls", read_calls, pack_calls},
    {"scripts", read_scripts, pack_scripts},
    {"verbose", read_verbose, pack_verbose},
    {"memory_usage", read_memory_usage, pack_memory_usage},
    {"node_socket", read_node_socket, pack_node_socket},
    {"node", read_node, pack_node},
    {"host", read_host, pack_host},
    {"secret", read_secret, pack_secret},
    {"orthanc", read_orthanc, pack_orthanc},
    {"worker_index", read_worker_index, pack_worker_index},
    {"workers_count", read_workers_count, pack_workers_count},
    {"slow_call_ms", read_slow_call, pack_slow_call},
};
#define KEY_COUNT (sizeof(keys) / sizeof(keys[0]))

/* Reads one key and its value; gives the key's index, or KEY_COUNT. */
static size_t
read_pair(struct opb_reader *items, struct opb_node_info *info)
{
    size_t bytes = 0;
    const char *name = opb_read_str(items, &bytes);

    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strlen(keys[i].name) == bytes && memcmp(keys[i].name, name, bytes) == 0) {
            keys[i].read(items, info);
            return i;
        }
    }
    opb_read_skip(items);
    return KEY_COUNT;
}

static enum opb_status
read_map(struct opb_reader *params, struct opb_node_info *info, char *text, size_t capacity)
{
    bool seen[KEY_COUNT + 1] = {false};
    struct opb_reader items;
    uint32_t count = opb_read_map(params, &items);

    if (opb_reader_finish(params) != OPB_OK) {
        (void)snprintf(text, capacity, "the parameter of Load is not one map");
        return OPB_BAD_FRAME;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t key = read_pair(&items, info);

        if (items.status != OPB_OK) {
            (void)snprintf(text, capacity, "Load has a wrong value of %s: %s",
                           key < KEY_COUNT ? keys[key].name : "an unknown key",
                           opb_status_text(items.status));
            return items.status;
        }
        seen[key] = true;
    }
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (!seen[i]) {
            (void)snprintf(text, capacity, "Load lacks %s", keys[i].name);
            return OPB_BAD_FRAME;
        }
    }
    for (uint32_t i = 0; i < info->script_count; i++) {
        if (info->scripts[i][0] != '/') {
            (void)snprintf(text, capacity, "the path of the script is not absolute: %.200s",
                           info->scripts[i]);
            return OPB_BAD_FRAME;
        }
    }
    return OPB_OK;
}

enum opb_status
opb_node_info_decode(struct opb_node_info **out, struct opb_frame *frame, char *text,
                     size_t capacity)
{
    enum opb_status status;
    struct opb_reader params;
    struct opb_node_info *info = calloc(1, sizeof(*info));

    *out = NULL;
    if (info == NULL) {
        (void)snprintf(text, capacity, "the host is out of memory");
        return OPB_NO_MEMORY;
    }
    opb_frame_params(frame, &params);
    status = read_map(&params, info, text, capacity);
    if (status != OPB_OK) {
        opb_node_info_free(info);
        return status;
    }
    *out = info;
    return OPB_OK;
}

void
opb_node_info_pack(struct opb_message *message, const struct opb_node_info *info)
{
    opb_message_begin_request(message, 0, 1);
    opb_message_set_msgid(message, 0);
    opb_pack_map(message, KEY_COUNT);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        opb_pack_cstr(message, keys[i].name);
        keys[i].pack(message, info);
    }
}
