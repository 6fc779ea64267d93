/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_storage.c - a storage area in Python: create, read, remove
 *
 * Here:      both versions of the SDK's storage area, and repeating what a host's death
 *            has interrupted: a file is created, read and removed by name, so that to do it
 *            twice does no harm, and not to do it loses data.
 * Elsewhere: which SDK calls would deadlock inside these (deadlocks.c).
 *
 * Orthanc asks no storage area but this one: without an answer the operation fails.
 */
#include "call.h"
#include "handles.h"
#include "kinds.h"
#include "log.h"
#include "policy.h"

#include "protocol/blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT_BYTES 128u

struct storage {
    const char *uuid;
    OrthancPluginContentType type;
    const void *content;
    uint64_t content_bytes;

    void *file; /* malloc'ed, or NULL */
    uint64_t file_bytes;
    bool has_no_memory;

#if OPB_SDK_HAS_STORAGE3
    OrthancPluginContext *context;
    OrthancPluginCompressionType compression;
    const OrthancPluginDicomInstance *instance;
    uint64_t handle; /* of the instance; 0: none */
    uint64_t start;
    const void *custom;
    uint32_t custom_bytes;
    OrthancPluginMemoryBuffer *new_custom;
    OrthancPluginMemoryBuffer64 *range;
    int64_t code; /* that the script returned */
#endif
};

/* Runs a call, once more if its host has died, or took too long. */
static OrthancPluginErrorCode
run(enum opb_call_index kind, const struct opb_call_io *io, const char *callback,
    const char *uuid)
{
    struct opb_node *node = opb_node_current();
    enum opb_outcome outcome;
    uint32_t deaths = 0;
    char what[WHAT_BYTES];

    if (node == NULL) {
        return OrthancPluginErrorCode_Plugin;
    }
    (void)snprintf(what, sizeof(what), "%s callback for %s", callback, uuid);
    do {
        outcome = opb_call_run(node, kind, io, what, OPB_FOREVER);
    } while (opb_policy_repeats(node, outcome, what, &deaths));
    return outcome == OPB_CALL_DONE       ? OrthancPluginErrorCode_Success
           : outcome == OPB_CALL_ENCODING ? OrthancPluginErrorCode_InternalError
                                          : OrthancPluginErrorCode_Plugin;
}

static void
pack_file(struct opb_message *message, const struct storage *storage)
{
    opb_pack_cstr(message, storage->uuid);
    opb_pack_int(message, (int64_t)storage->type);
}

static void
pack_content(struct opb_message *message, const struct storage *storage)
{
    opb_pack_bytes(message, storage->content != NULL ? storage->content : "",
                   storage->content != NULL ? (size_t)storage->content_bytes : 0);
}

static void
create_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct storage *storage = context;

    (void)session; /* it is lent nothing */
    opb_message_begin_request(message, OPB_CALL_STORAGE_CREATE_INDEX, 3);
    pack_file(message, storage);
    pack_content(message, storage);
}

static OrthancPluginErrorCode
callback_create(const char *uuid, const void *content, int64_t size,
                OrthancPluginContentType type)
{
    struct storage storage = {.uuid = uuid,
                              .type = type,
                              .content = content,
                              .content_bytes = size > 0 ? (uint64_t)size : 0};
    struct opb_call_io io = {.pack = create_pack, .context = &storage};

    return run(OPB_CALL_STORAGE_CREATE_INDEX, &io, "StorageCreate", uuid);
}

static void
read_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    (void)session; /* it is lent nothing */
    opb_message_begin_request(message, OPB_CALL_STORAGE_READ_INDEX, 2);
    pack_file(message, context);
}

/* A large file is not copied: it was read into memory that opb_block_free() frees. */
static void
read_result(struct opb_reader *reader, void *context)
{
    struct storage *storage = context;
    size_t bytes = 0;
    void *owner = NULL;
    const void *data = opb_read_bytes_take(reader, &bytes, &owner);

    if (reader->status != OPB_OK) {
        return;
    }
    if (owner == NULL && bytes > 0) {
        owner = malloc(bytes);
        if (owner == NULL) {
            storage->has_no_memory = true;
            return;
        }
        memcpy(owner, data, bytes);
    }
    storage->file = owner;
    storage->file_bytes = bytes;
}

static OrthancPluginErrorCode
callback_read(void **content, int64_t *size, const char *uuid,
              OrthancPluginContentType type)
{
    struct storage storage = {.uuid = uuid, .type = type};
    struct opb_call_io io = {.pack = read_pack, .result = read_result, .context = &storage};
    OrthancPluginErrorCode code =
        run(OPB_CALL_STORAGE_READ_INDEX, &io, "StorageRead", uuid);

    *content = NULL;
    *size = 0;
    if (code == OrthancPluginErrorCode_Success && storage.has_no_memory) {
        code = OrthancPluginErrorCode_NotEnoughMemory;
    }
    if (code != OrthancPluginErrorCode_Success) {
        opb_block_free(storage.file);
        return code;
    }
    *content = storage.file;
    *size = (int64_t)storage.file_bytes; /* it fits in memory, so it fits */
    return OrthancPluginErrorCode_Success;
}

static void
remove_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    (void)session; /* it is lent nothing */
    opb_message_begin_request(message, OPB_CALL_STORAGE_REMOVE_INDEX, 2);
    pack_file(message, context);
}

static OrthancPluginErrorCode
callback_remove(const char *uuid, OrthancPluginContentType type)
{
    struct storage storage = {.uuid = uuid, .type = type};
    struct opb_call_io io = {.pack = remove_pack, .context = &storage};

    return run(OPB_CALL_STORAGE_REMOVE_INDEX, &io, "StorageRemove", uuid);
}

OrthancPluginErrorCode
opb_register_storage(OrthancPluginContext *context)
{
    /* filled in by hand: newer headers call the function deprecated, and it returns no
     * error code */
    const _OrthancPluginRegisterStorageArea params = {.create = callback_create,
                                                      .read = callback_read,
                                                      .remove = callback_remove,
                                                      .free = opb_block_free};

    return context->InvokeService(context, _OrthancPluginService_RegisterStorageArea,
                                  &params);
}

#if OPB_SDK_HAS_STORAGE3

static void
pack_custom(struct opb_message *message, const struct storage *storage)
{
    opb_pack_bytes(message, storage->custom != NULL ? storage->custom : "",
                   storage->custom != NULL ? storage->custom_bytes : 0);
}

/* What the script returned, as Orthanc is told. */
static OrthancPluginErrorCode
end3(const struct storage *storage, OrthancPluginErrorCode code)
{
    if (code != OrthancPluginErrorCode_Success) {
        return code;
    }
    if (storage->code != 0) {
        return (OrthancPluginErrorCode)storage->code;
    }
    return storage->has_no_memory ? OrthancPluginErrorCode_NotEnoughMemory
                                  : OrthancPluginErrorCode_Success;
}

/* [code, bytes or nil]: lends the bytes; NULL if there are none. */
static const void *
read_pair(struct opb_reader *reader, struct storage *storage, size_t *bytes)
{
    struct opb_reader pair;
    const void *data = NULL;

    *bytes = 0;
    if (opb_read_array(reader, &pair) != 2) {
        reader->status = OPB_BAD_FRAME;
        return NULL;
    }
    storage->code = opb_read_int(&pair, INT32_MIN, INT32_MAX);
    if (opb_read_is_nil(&pair)) {
        opb_read_skip(&pair);
    }
    else {
        data = opb_read_bytes(&pair, bytes);
    }
    reader->status = opb_reader_finish(&pair);
    return reader->status == OPB_OK && storage->code == 0 ? data : NULL;
}

static void
create3_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct storage *storage = context;

    if (storage->instance != NULL) {
        /* the accessors of the SDK take it as const again */
        storage->handle =
            opb_handle_lend(opb_session_handles(session), OPB_CLASS_DicomInstance,
                            (void *)(uintptr_t)storage->instance);
    }
    opb_message_begin_request(message, OPB_CALL_STORAGE_CREATE3_INDEX, 5);
    pack_file(message, storage);
    opb_pack_int(message, (int64_t)storage->compression);
    pack_content(message, storage);
    opb_pack_uint(message, storage->handle);
}

static void
create3_finish(struct opb_session *session, void *context)
{
    struct storage *storage = context;

    opb_handle_end(opb_session_handles(session), storage->handle);
    storage->handle = 0;
}

static void
create3_result(struct opb_reader *reader, void *context)
{
    struct storage *storage = context;
    size_t bytes;
    const void *data = read_pair(reader, storage, &bytes);

    if (data == NULL || bytes == 0) {
        return; /* what is left unchanged is empty */
    }
    if (bytes > UINT32_MAX || OrthancPluginCreateMemoryBuffer(
                                  storage->context, storage->new_custom, (uint32_t)bytes) !=
                                  OrthancPluginErrorCode_Success) {
        storage->has_no_memory = true;
        return;
    }
    memcpy(storage->new_custom->data, data, bytes);
}

static OrthancPluginErrorCode
callback_create3(OrthancPluginMemoryBuffer *custom, const char *uuid, const void *content,
                 uint64_t size, OrthancPluginContentType type,
                 OrthancPluginCompressionType compression,
                 const OrthancPluginDicomInstance *instance)
{
    struct opb_node *node = opb_node_current();
    struct storage storage = {.uuid = uuid,
                              .type = type,
                              .content = content,
                              .content_bytes = size,
                              .context = node != NULL ? node->context : NULL,
                              .compression = compression,
                              .instance = instance,
                              .new_custom = custom};
    struct opb_call_io io = {.pack = create3_pack,
                             .result = create3_result,
                             .finish = create3_finish,
                             .context = &storage};

    return end3(&storage, run(OPB_CALL_STORAGE_CREATE3_INDEX, &io, "StorageCreate2", uuid));
}

static void
read3_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct storage *storage = context;

    (void)session; /* it is lent nothing */
    opb_message_begin_request(message, OPB_CALL_STORAGE_READ3_INDEX, 5);
    pack_file(message, storage);
    opb_pack_uint(message, storage->start);
    opb_pack_uint(message, storage->range->size);
    pack_custom(message, storage);
}

static void
read3_result(struct opb_reader *reader, void *context)
{
    struct storage *storage = context;
    size_t bytes;
    const void *data = read_pair(reader, storage, &bytes);

    if (reader->status != OPB_OK || storage->code != 0) {
        return;
    }
    if (data == NULL || bytes != storage->range->size) {
        opb_log_error("The Python StorageReadRange2 callback has returned %zu bytes of %s, "
                      "but %llu bytes were asked for",
                      bytes, storage->uuid, (unsigned long long)storage->range->size);
        storage->code = OrthancPluginErrorCode_Plugin;
    }
    else if (bytes > 0) {
        memcpy(storage->range->data, data, bytes);
    }
}

static OrthancPluginErrorCode
callback_read3(OrthancPluginMemoryBuffer64 *range, const char *uuid,
               OrthancPluginContentType type, uint64_t start, const void *custom,
               uint32_t custom_bytes)
{
    struct storage storage = {.uuid = uuid,
                              .type = type,
                              .start = start,
                              .custom = custom,
                              .custom_bytes = custom_bytes,
                              .range = range};
    struct opb_call_io io = {
        .pack = read3_pack, .result = read3_result, .context = &storage};

    return end3(&storage,
                run(OPB_CALL_STORAGE_READ3_INDEX, &io, "StorageReadRange2", uuid));
}

static void
remove3_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct storage *storage = context;

    (void)session; /* it is lent nothing */
    opb_message_begin_request(message, OPB_CALL_STORAGE_REMOVE3_INDEX, 3);
    pack_file(message, storage);
    pack_custom(message, storage);
}

static void
remove3_result(struct opb_reader *reader, void *context)
{
    struct storage *storage = context;

    storage->code = opb_read_int(reader, INT32_MIN, INT32_MAX);
}

static OrthancPluginErrorCode
callback_remove3(const char *uuid, OrthancPluginContentType type, const void *custom,
                 uint32_t custom_bytes)
{
    struct storage storage = {
        .uuid = uuid, .type = type, .custom = custom, .custom_bytes = custom_bytes};
    struct opb_call_io io = {
        .pack = remove3_pack, .result = remove3_result, .context = &storage};

    return end3(&storage, run(OPB_CALL_STORAGE_REMOVE3_INDEX, &io, "StorageRemove2", uuid));
}

OrthancPluginErrorCode
opb_register_storage3(OrthancPluginContext *context)
{
    const _OrthancPluginRegisterStorageArea3 params = {.create = callback_create3,
                                                       .readRange = callback_read3,
                                                       .remove = callback_remove3};

    return context->InvokeService(context, _OrthancPluginService_RegisterStorageArea3,
                                  &params);
}

#endif
