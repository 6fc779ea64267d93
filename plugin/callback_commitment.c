/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_commitment.c - storage commitment: is what a peer has sent stored safely?
 *
 * After a report of success the peer may delete its only copy: so success is what the
 * script has said, and nothing else. When Python cannot be asked the peer is told that the
 * processing failed, and asks again some day. What the script does wrong, before it was
 * asked about an instance, fails the job of Orthanc, and the peer gets no report.
 */
#include "driver.h"
#include "facts.h"
#include "handles.h"
#include "kinds.h"
#include "log.h"
#include "request_pack.h"

#include <stdio.h>
#include <stdlib.h>

#define WHAT_BYTES 160u

struct commitment {
    const char *job;
    const char *transaction;
    const char *const *classes;
    const char *const *instances;
    uint32_t count;
    const char *remote_aet;
    const char *called_aet;
#if OPB_SDK_HAS_CONNECTION
    const OrthancPluginDicomConnection *connection;
    uint64_t handle;
#endif
    struct opb_session *session; /* lent, while the call runs */
    struct opb_driver *driver;
};

static void
pack_request(struct opb_message *message, const struct commitment *commitment)
{
    opb_pack_cstr(message, commitment->job);
    opb_pack_cstr(message, commitment->transaction);
    opb_pack_text_array(message, commitment->count, commitment->classes);
    opb_pack_text_array(message, commitment->count, commitment->instances);
}

static void
commitment_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct commitment *commitment = context;

    commitment->session = session;
    opb_message_begin_request(message, OPB_CALL_COMMITMENT_INDEX, 6);
    pack_request(message, commitment);
    opb_pack_cstr(message, commitment->remote_aet);
    opb_pack_cstr(message, commitment->called_aet);
}

static void
commitment_result(struct opb_reader *reader, void *context)
{
    struct commitment *commitment = context;

    opb_driver_read(commitment->driver, commitment->session, reader);
}

/* Gives *handler, which is not NULL on success: else Orthanc would answer from its own
 * index. */
static OrthancPluginErrorCode
make(void **handler, enum opb_call_index kind, struct commitment *commitment,
     const struct opb_call_io *io)
{
    struct opb_node *node = opb_node_current();
    char what[WHAT_BYTES];

    *handler = NULL;
    commitment->driver = opb_driver_new();
    if (commitment->driver == NULL) {
        return OrthancPluginErrorCode_NotEnoughMemory;
    }
    (void)snprintf(what, sizeof(what), "storage commitment SCP callback for %s",
                   commitment->transaction);
    if (node != NULL) {
        switch (opb_call_run(node, kind, io, what, OPB_FOREVER)) {
        case OPB_CALL_DONE:
            break;
        case OPB_CALL_ENCODING:
            opb_driver_end(&commitment->driver, node, OPB_CALL_COMMITMENT_FREE_INDEX, what);
            return OrthancPluginErrorCode_InternalError;
        case OPB_CALL_RAISED:
        case OPB_CALL_FAILED:
        case OPB_CALL_ABSENT:
            opb_driver_end(&commitment->driver, node, OPB_CALL_COMMITMENT_FREE_INDEX, what);
            return OrthancPluginErrorCode_Plugin;
        case OPB_CALL_DIED:
        case OPB_CALL_LATE:
        case OPB_CALL_NO_HOST:
            opb_log_error("The peer is told that the storage commitment %s has failed: "
                          "Python could not be asked",
                          commitment->transaction);
            break; /* a driver without an object */
        }
    }
    *handler = commitment->driver;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
callback_factory(void **handler, const char *job, const char *transaction,
                 const char *const *classes, const char *const *instances, uint32_t count,
                 const char *remote_aet, const char *called_aet)
{
    struct commitment commitment = {.job = job,
                                    .transaction = transaction,
                                    .classes = classes,
                                    .instances = instances,
                                    .count = count,
                                    .remote_aet = remote_aet,
                                    .called_aet = called_aet};
    const struct opb_call_io io = {
        .pack = commitment_pack, .result = commitment_result, .context = &commitment};

    return make(handler, OPB_CALL_COMMITMENT_INDEX, &commitment, &io);
}

struct lookup {
    struct opb_driver *driver;
    const char *class_uid;
    const char *instance_uid;
    bool has_reason;
    int64_t reason;
};

static void
lookup_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct lookup *lookup = context;

    (void)session; /* it is lent nothing */
    opb_message_begin_request(message, OPB_CALL_COMMITMENT_LOOKUP_INDEX, 3);
    opb_pack_cstr(message, lookup->class_uid);
    opb_pack_cstr(message, lookup->instance_uid);
    opb_driver_pack(lookup->driver, message);
}

/* Nil: what the script returned was no int. */
static void
lookup_result(struct opb_reader *reader, void *context)
{
    struct lookup *lookup = context;

    if (opb_read_is_nil(reader)) {
        opb_read_skip(reader);
        return;
    }
    lookup->reason = opb_read_int(reader, INT32_MIN, INT32_MAX);
    lookup->has_reason = reader->status == OPB_OK;
}

static OrthancPluginErrorCode
callback_lookup(OrthancPluginStorageCommitmentFailureReason *reason, void *handler,
                const char *class_uid, const char *instance_uid)
{
    struct opb_node *node = opb_node_current();
    struct lookup lookup = {
        .driver = handler, .class_uid = class_uid, .instance_uid = instance_uid};
    const struct opb_call_io io = {
        .pack = lookup_pack, .result = lookup_result, .context = &lookup};
    char what[WHAT_BYTES];

    *reason = OrthancPluginStorageCommitmentFailureReason_ProcessingFailure;
    if (node == NULL || !opb_driver_has_object(lookup.driver)) {
        return OrthancPluginErrorCode_Success;
    }
    (void)snprintf(what, sizeof(what), "storage commitment Lookup callback for %s",
                   instance_uid);
    if (opb_driver_call(lookup.driver, node, OPB_CALL_COMMITMENT_LOOKUP_INDEX, &io, what,
                        OPB_FOREVER) != OPB_CALL_DONE) {
        opb_log_error("The peer is told that the storage commitment of the instance %s has "
                      "failed",
                      instance_uid);
        return OrthancPluginErrorCode_Success;
    }
    if (!lookup.has_reason) {
        return OrthancPluginErrorCode_Plugin;
    }
    if (lookup.reason < OrthancPluginStorageCommitmentFailureReason_Success ||
        lookup.reason >
            OrthancPluginStorageCommitmentFailureReason_DuplicateTransactionUID) {
        opb_log_error("The Python storage commitment Lookup callback has returned %lld, "
                      "which is no StorageCommitmentFailureReason",
                      (long long)lookup.reason);
        return OrthancPluginErrorCode_ParameterOutOfRange;
    }
    *reason = (OrthancPluginStorageCommitmentFailureReason)lookup.reason;
    return OrthancPluginErrorCode_Success;
}

static void
callback_destructor(void *handler)
{
    struct opb_driver *driver = handler;

    opb_driver_end(&driver, opb_node_current(), OPB_CALL_COMMITMENT_FREE_INDEX,
                   "end of a storage commitment");
}

OrthancPluginErrorCode
opb_register_commitment(OrthancPluginContext *context)
{
    return OrthancPluginRegisterStorageCommitmentScpCallback(
        context, callback_factory, callback_destructor, callback_lookup);
}

#if OPB_SDK_HAS_CONNECTION

static void
commitment2_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct commitment *commitment = context;

    commitment->session = session;
    opb_message_begin_request(message, OPB_CALL_COMMITMENT2_INDEX, 5);
    pack_request(message, commitment);
    commitment->handle =
        opb_facts_lend(message, session, OPB_CLASS_DicomConnection, commitment->connection);
}

static void
commitment2_finish(struct opb_session *session, void *context)
{
    const struct commitment *commitment = context;

    opb_handle_end(opb_session_handles(session), commitment->handle);
}

static OrthancPluginErrorCode
callback_factory2(void **handler, const char *job, const char *transaction,
                  const char *const *classes, const char *const *instances, uint32_t count,
                  const OrthancPluginDicomConnection *connection)
{
    struct commitment commitment = {.job = job,
                                    .transaction = transaction,
                                    .classes = classes,
                                    .instances = instances,
                                    .count = count,
                                    .connection = connection};
    const struct opb_call_io io = {.pack = commitment2_pack,
                                   .result = commitment_result,
                                   .finish = commitment2_finish,
                                   .context = &commitment};

    return make(handler, OPB_CALL_COMMITMENT2_INDEX, &commitment, &io);
}

OrthancPluginErrorCode
opb_register_commitment2(OrthancPluginContext *context)
{
    return OrthancPluginRegisterStorageCommitmentScpCallback2(
        context, callback_factory2, callback_destructor, callback_lookup);
}

#endif
