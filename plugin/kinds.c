/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/kinds.c - the kinds of callbacks beside REST routes, and telling Orthanc of them
 *
 * See kinds.h. The words are those of the contract, sections 3.1 and 7.
 */
#include "kinds.h"

#include "log.h"
#include "shim.h"

enum kind_state {
    KIND_UNKNOWN, /* to Orthanc */
    KIND_TOLD,    /* registered, or being registered by some thread */
    KIND_REFUSED  /* by Orthanc, for good: another plugin has the only place */
};

#define ONE(what, function, latched)                                                       \
    {                                                                                      \
        .description = what, .announcement = "Registering one " what,                      \
        .register_with = function, .is_latched = latched                                   \
    }
#define SEVERAL(what, function, latched)                                                   \
    {                                                                                      \
        .description = what, .announcement = "Registering callbacks " what,                \
        .register_with = function, .is_latched = latched                                   \
    }
#define STORAGE(function)                                                                  \
    {                                                                                      \
        .description = "custom storage area in Python",                                    \
        .announcement = "Registering a custom storage area in Python",                     \
        .register_with = function, .is_latched = true                                      \
    }

static const struct opb_kind kinds[OPB_CALL_COUNT] = {
    [OPB_CALL_CHANGE_INDEX] = ONE("Python on-changes callback", NULL, false),
    [OPB_CALL_STORED_INSTANCE_INDEX] =
        ONE("Python on-stored-instance callback", NULL, false),
    [OPB_CALL_HTTP_FILTER_INDEX] = ONE("Python incoming-http-request filter", NULL, false),
    [OPB_CALL_FIND_INDEX] = ONE("Python C-FIND SCP callback", opb_register_find, true),
    [OPB_CALL_WORKLIST_INDEX] =
        ONE("Python C-FIND SCP for worklist callback", opb_register_worklist, true),
    [OPB_CALL_MOVE_INDEX] = ONE("Python C-MOVE SCP callback", opb_register_move, true),
    [OPB_CALL_MOVE2_INDEX] =
        SEVERAL("Python C-MOVE SCP callback (v2)", opb_register_move2, true),
    [OPB_CALL_RECEIVED_INSTANCE_INDEX] =
        ONE("Python received instance callback", opb_register_received, false),
    [OPB_CALL_CSTORE_FILTER_INDEX] =
        ONE("Python incoming CStore instance filter", opb_register_cstore_filter, false),
    [OPB_CALL_STORAGE_CREATE_INDEX] = STORAGE(opb_register_storage),
    [OPB_CALL_COMMITMENT_INDEX] = SEVERAL("Python storage commitment SCP & Lookup callback",
                                          opb_register_commitment, false),
#if OPB_SDK_HAS_STORAGE3
    [OPB_CALL_STORAGE_CREATE3_INDEX] = STORAGE(opb_register_storage3),
#endif
#if OPB_SDK_HAS_CONNECTION
    [OPB_CALL_COMMITMENT2_INDEX] =
        SEVERAL("Python storage commitment SCP & Lookup callback (v2)",
                opb_register_commitment2, false),
    [OPB_CALL_FIND2_INDEX] =
        ONE("Python C-FIND SCP callback (v2)", opb_register_find2, true),
    [OPB_CALL_WORKLIST2_INDEX] =
        ONE("Python C-FIND SCP for worklist callback (v2)", opb_register_worklist2, true),
    [OPB_CALL_MOVE3_INDEX] =
        SEVERAL("Python C-MOVE SCP callback (v3)", opb_register_move3, true),
#endif
};

#define NAME_CALL(upper, name) name,

const char *
opb_call_name(enum opb_call_index call)
{
    static const char *const names[] = {OPB_CALL_NAMES(NAME_CALL)};

    return call < OPB_CALL_COUNT ? names[call] : "";
}

const struct opb_kind *
opb_kind(enum opb_call_index call)
{
    return call < OPB_CALL_COUNT && kinds[call].description != NULL ? &kinds[call] : NULL;
}

/* Without a lock: Orthanc may wait for a thread that is in a callback, which may register
 * something in its turn. */
void
opb_kind_register(struct opb_kind_states *states, struct opb_node *node,
                  enum opb_call_index call)
{
    const struct opb_kind *kind = opb_kind(call);
    OrthancPluginErrorCode code;
    int expected = KIND_UNKNOWN;

    if (kind == NULL || kind->register_with == NULL) {
        return;
    }
    if (kind->is_latched && opb_node_phase(node) != OPB_PHASE_LOADING) {
        if (atomic_load(&states->of[call]) == KIND_UNKNOWN) {
            opb_log_warning("The %s was registered after the start of Orthanc: it needs a "
                            "restart of Orthanc to become effective",
                            kind->description);
        }
        return;
    }
    if (!atomic_compare_exchange_strong(&states->of[call], &expected, KIND_TOLD)) {
        return;
    }
    opb_shim_forget();
    code = kind->register_with(node->context);
    if (code != OrthancPluginErrorCode_Success) {
        const char *why = opb_shim_exception();

        atomic_store(&states->of[call], KIND_REFUSED);
        opb_log_error("Orthanc does not accept the %s, which will not be called: %s",
                      kind->description,
                      why[0] != '\0' ? why : "another one may be registered already");
    }
}

bool
opb_kind_needs_restart(const struct opb_kind_states *states, enum opb_call_index call)
{
    const struct opb_kind *kind = opb_kind(call);

    return kind != NULL && kind->is_latched &&
           atomic_load(&states->of[call]) == KIND_UNKNOWN;
}
