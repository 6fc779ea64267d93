/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_move.c - C-MOVE requests
 *
 * Here:      what Orthanc holds as a driver, for the three versions that Python has:
 *            version 1 has no object of the script, only a copy of the request, which is
 *            the one sub-operation; versions 2 and 3 have one, in the host that made it.
 * Elsewhere: which host that is (driver.c).
 *
 * Orthanc asks for the size once, then applies until an error, then frees. The size has no
 * error value: a size that the script cannot tell counts as 1, and the one sub-operation
 * fails, so that the peer gets an answer.
 */
#include "call.h"
#include "config.h"
#include "driver.h"
#include "facts.h"
#include "handles.h"
#include "kinds.h"
#include "log.h"
#include "routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT_BYTES 128u

/* Texts of a request, in the order of the protocol. */
enum move_text {
    MOVE_PATIENT,
    MOVE_ACCESSION,
    MOVE_STUDY,
    MOVE_SERIES,
    MOVE_INSTANCE,
    MOVE_ORIGINATOR,
    MOVE_SOURCE,
    MOVE_TARGET,
    MOVE_TEXT_COUNT
};

struct move {
    enum opb_call_index kind;
    const char *level;            /* static; NULL: the request names none */
    char *texts[MOVE_TEXT_COUNT]; /* owned; NULL: the request lacks it */
    uint16_t originator_id;
    struct opb_driver *driver; /* NULL in version 1 */
    bool has_no_size;          /* the first sub-operation fails */
    /* While a call runs: */
    const void *connection; /* version 3, in create only */
    uint64_t handle;
    struct opb_session *session; /* of the call; lent */
    uint32_t size;
};

static void
move_free(struct move *move)
{
    if (move == NULL) {
        return;
    }
    for (int i = 0; i < MOVE_TEXT_COUNT; i++) {
        free(move->texts[i]);
    }
    free(move);
}

static const char *
level_text(OrthancPluginResourceType type)
{
    switch ((int)type) {
    case OrthancPluginResourceType_Patient:
        return "PATIENT";
    case OrthancPluginResourceType_Study:
        return "STUDY";
    case OrthancPluginResourceType_Series:
        return "SERIES";
    case OrthancPluginResourceType_Instance:
        return "INSTANCE";
    default:
        return NULL;
    }
}

/* NULL without memory. */
static struct move *
move_new(enum opb_call_index kind, OrthancPluginResourceType type,
         const char *const texts[MOVE_TEXT_COUNT], uint16_t originator_id)
{
    struct move *move = calloc(1, sizeof(*move));

    if (move == NULL) {
        return NULL;
    }
    move->kind = kind;
    move->level = level_text(type);
    move->originator_id = originator_id;
    for (int i = 0; i < MOVE_TEXT_COUNT; i++) {
        if (texts[i] != NULL && (move->texts[i] = strdup(texts[i])) == NULL) {
            move_free(move);
            return NULL;
        }
    }
    return move;
}

/* The whole request: version 1's only call, and create. */
static void
request_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct move *move = context;
    bool is_v3 = move->kind == OPB_CALL_MOVE3_INDEX;

    move->session = session;
    opb_message_begin_request(message, (uint32_t)move->kind, is_v3 ? 9 : 10);
#if OPB_SDK_HAS_CONNECTION
    if (is_v3) {
        move->handle =
            opb_facts_lend(message, session, OPB_CLASS_DicomConnection, move->connection);
    }
#endif
    opb_pack_cstr(message, move->level);
    for (int i = 0; i < MOVE_TEXT_COUNT; i++) {
        if (!is_v3 || (i != MOVE_ORIGINATOR && i != MOVE_SOURCE)) {
            opb_pack_cstr(message, move->texts[i]);
        }
    }
    opb_pack_uint(message, move->originator_id);
}

static void
create_result(struct opb_reader *reader, void *context)
{
    struct move *move = context;

    opb_driver_read(move->driver, move->session, reader);
}

static void
create_finish(struct opb_session *session, void *context)
{
    const struct move *move = context;

    opb_handle_end(opb_session_handles(session), move->handle);
}

/* False: the request is over. */
static bool
create_driver(struct opb_node *node, struct move *move)
{
    struct opb_call_io io = {.pack = request_pack,
                             .result = create_result,
                             .finish = create_finish,
                             .context = move};
    char what[WHAT_BYTES];

    move->driver = opb_driver_new();
    if (move->driver == NULL) {
        opb_log_error("There is no memory for a C-MOVE request");
        return false;
    }
    (void)snprintf(what, sizeof(what), "Python C-MOVE SCP callback (Create v%d)",
                   move->kind == OPB_CALL_MOVE2_INDEX ? 2 : 3);
    if (opb_call_run(node, move->kind, &io, what, OPB_FOREVER) == OPB_CALL_DONE) {
        return true;
    }
    opb_driver_end(&move->driver, node, OPB_CALL_MOVE_FREE_INDEX, what);
    return false;
}

/* Gives what Orthanc holds as driver, or NULL, which it reports to the peer as "unable to
 * process". connection is NULL in versions 1 and 2. */
static void *
move_create(enum opb_call_index kind, OrthancPluginResourceType type,
            const char *const texts[MOVE_TEXT_COUNT], const void *connection,
            uint16_t originator_id)
{
    struct opb_node *node = opb_node_current();
    struct move *move;

    if (node == NULL) {
        return NULL;
    }
    if (!opb_routes_has(node->routes, kind)) {
        opb_log_error("A C-MOVE request was refused: the script that runs now has not "
                      "registered the %s",
                      opb_kind(kind)->description);
        return NULL;
    }
    move = move_new(kind, type, texts, originator_id);
    if (move == NULL) {
        opb_log_error("There is no memory for a C-MOVE request");
        return NULL;
    }
    if (kind == OPB_CALL_MOVE_INDEX) {
        return move;
    }
    if (move->level == NULL) {
        opb_log_error("A C-MOVE request without a query/retrieve level was refused");
        move_free(move);
        return NULL;
    }
    move->connection = connection;
    if (!create_driver(node, move)) {
        move_free(move);
        return NULL;
    }
    move->connection = NULL;
    return move;
}

static void
driver_pack(struct opb_message *message, enum opb_call_index kind, const struct move *move)
{
    opb_message_begin_request(message, (uint32_t)kind, 1);
    opb_driver_pack(move->driver, message);
}

static void
size_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    (void)session;
    driver_pack(message, OPB_CALL_MOVE_SIZE_INDEX, context);
}

static void
size_result(struct opb_reader *reader, void *context)
{
    struct move *move = context;

    move->size = (uint32_t)opb_read_uint(reader, UINT32_MAX);
}

static uint32_t
on_move_size(void *driver)
{
    struct move *move = driver;
    struct opb_call_io io = {.pack = size_pack, .result = size_result, .context = move};

    if (move->driver == NULL) {
        return 1; /* version 1 */
    }
    if (opb_driver_call(move->driver, opb_node_current(), OPB_CALL_MOVE_SIZE_INDEX, &io,
                        "Python C-MOVE SCP callback (GetMoveSize)",
                        OPB_FOREVER) != OPB_CALL_DONE) {
        move->has_no_size = true;
        return 1;
    }
    return move->size;
}

static void
apply_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    (void)session;
    driver_pack(message, OPB_CALL_MOVE_APPLY_INDEX, context);
}

static enum opb_outcome
apply_request(struct move *move)
{
    struct opb_call_io io = {.pack = request_pack, .context = move};

    if (move->level == NULL) {
        opb_log_error("A C-MOVE request without a query/retrieve level was refused");
        return OPB_CALL_FAILED;
    }
    return opb_call_run(opb_node_current(), move->kind, &io,
                        "Python C-MOVE SCP callback (v1)", OPB_FOREVER);
}

static OrthancPluginErrorCode
on_move_apply(void *driver)
{
    struct move *move = driver;
    struct opb_call_io io = {.pack = apply_pack, .context = move};
    enum opb_outcome outcome = OPB_CALL_FAILED;

    if (move->driver == NULL) {
        outcome = apply_request(move);
    }
    else if (!move->has_no_size) {
        outcome =
            opb_driver_call(move->driver, opb_node_current(), OPB_CALL_MOVE_APPLY_INDEX,
                            &io, "Python C-MOVE SCP callback (Apply)", OPB_FOREVER);
    }
    return outcome == OPB_CALL_DONE       ? OrthancPluginErrorCode_Success
           : outcome == OPB_CALL_ENCODING ? OrthancPluginErrorCode_InternalError
                                          : OrthancPluginErrorCode_Plugin;
}

static void
on_move_free(void *driver)
{
    struct move *move = driver;

    opb_driver_end(&move->driver, opb_node_current(), OPB_CALL_MOVE_FREE_INDEX,
                   "Python C-MOVE SCP callback (Free)");
    move_free(move);
}

static void *
on_move(OrthancPluginResourceType type, const char *patient, const char *accession,
        const char *study, const char *series, const char *instance, const char *originator,
        const char *source, const char *target, uint16_t originator_id)
{
    const char *const texts[MOVE_TEXT_COUNT] = {patient,  accession,  study,  series,
                                                instance, originator, source, target};

    return move_create(OPB_CALL_MOVE_INDEX, type, texts, NULL, originator_id);
}

OrthancPluginErrorCode
opb_register_move(OrthancPluginContext *context)
{
    return OrthancPluginRegisterMoveCallback(context, on_move, on_move_size, on_move_apply,
                                             on_move_free);
}

static void *
on_move2(OrthancPluginResourceType type, const char *patient, const char *accession,
         const char *study, const char *series, const char *instance,
         const char *originator, const char *source, const char *target,
         uint16_t originator_id)
{
    const char *const texts[MOVE_TEXT_COUNT] = {patient,  accession,  study,  series,
                                                instance, originator, source, target};

    return move_create(OPB_CALL_MOVE2_INDEX, type, texts, NULL, originator_id);
}

OrthancPluginErrorCode
opb_register_move2(OrthancPluginContext *context)
{
    return OrthancPluginRegisterMoveCallback(context, on_move2, on_move_size, on_move_apply,
                                             on_move_free);
}

#if OPB_SDK_HAS_CONNECTION
static void *
on_move3(OrthancPluginResourceType type, const char *patient, const char *accession,
         const char *study, const char *series, const char *instance,
         const OrthancPluginDicomConnection *connection, const char *target,
         uint16_t originator_id)
{
    const char *const texts[MOVE_TEXT_COUNT] = {patient,  accession, study, series,
                                                instance, NULL,      NULL,  target};

    return move_create(OPB_CALL_MOVE3_INDEX, type, texts, connection, originator_id);
}

OrthancPluginErrorCode
opb_register_move3(OrthancPluginContext *context)
{
    return OrthancPluginRegisterMoveCallback2(context, on_move3, on_move_size,
                                              on_move_apply, on_move_free);
}
#endif
