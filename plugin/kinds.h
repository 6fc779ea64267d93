/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/kinds.h - the kinds of callbacks beside REST routes, and telling Orthanc of them
 *
 * Here:      which kinds are served, how log lines name them, how and when each is
 *            registered with Orthanc; the C callbacks that are registered so.
 * Elsewhere: whether the host has a handler (routes.c), running it (callback_*.c).
 *
 * Most kinds change what the server does by their mere registration (core notes 1.8): those
 * are registered when the first host asks. Nothing can be unregistered, so that a later
 * host that asks again finds it done.
 */
#ifndef OPB_KINDS_H
#define OPB_KINDS_H

#include "node.h"

#include "protocol/words.h"

#include <stdatomic.h>

struct opb_kind {
    const char *description;  /* "Python C-FIND SCP callback" */
    const char *announcement; /* the info line of a registration */
    /* NULL: registered in any case, by opb_routes_register_fixed(). */
    OrthancPluginErrorCode (*register_with)(OrthancPluginContext *context);
    /* Orthanc looks at it once, when it starts: to register it later has no effect. */
    bool is_latched;
};

/* "Rest": as in the protocol and in Python.CallTimeout. Static. */
const char *opb_call_name(enum opb_call_index call);

/* Lends; NULL for what is no such kind, or not served. */
const struct opb_kind *opb_kind(enum opb_call_index call);

/* Which kinds Orthanc has been told of. Zero at the start. */
struct opb_kind_states {
    atomic_int of[OPB_CALL_COUNT]; /* enum kind_state of kinds.c */
};
/* Tells Orthanc of a kind, if that has not been done. What Orthanc refuses, and what comes
 * too late, is logged: the script is not told (contract, section 3.1). No lock may be held.
 */
void opb_kind_register(struct opb_kind_states *states, struct opb_node *node,
                       enum opb_call_index call);

/* Whether a script that has registered it must wait for the next start of Orthanc. */
bool opb_kind_needs_restart(const struct opb_kind_states *states, enum opb_call_index call);

/* The newer callbacks that name the peer by an object of their own. */
#define OPB_SDK_HAS_CONNECTION ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 10)

/* callback_find.c, callback_move.c */
OrthancPluginErrorCode opb_register_find(OrthancPluginContext *context);
OrthancPluginErrorCode opb_register_worklist(OrthancPluginContext *context);
OrthancPluginErrorCode opb_register_move(OrthancPluginContext *context);
OrthancPluginErrorCode opb_register_move2(OrthancPluginContext *context);
#if OPB_SDK_HAS_CONNECTION
OrthancPluginErrorCode opb_register_find2(OrthancPluginContext *context);
OrthancPluginErrorCode opb_register_worklist2(OrthancPluginContext *context);
OrthancPluginErrorCode opb_register_move3(OrthancPluginContext *context);
#endif

/* callback_received.c, callback_cstore_filter.c */
OrthancPluginErrorCode opb_register_received(OrthancPluginContext *context);
OrthancPluginErrorCode opb_register_cstore_filter(OrthancPluginContext *context);
/* callback_storage.c */
#define OPB_SDK_HAS_STORAGE3 ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 8)
OrthancPluginErrorCode opb_register_storage(OrthancPluginContext *context);
#if OPB_SDK_HAS_STORAGE3
OrthancPluginErrorCode opb_register_storage3(OrthancPluginContext *context);
#endif
/* callback_commitment.c */
OrthancPluginErrorCode opb_register_commitment(OrthancPluginContext *context);
#if OPB_SDK_HAS_CONNECTION
OrthancPluginErrorCode opb_register_commitment2(OrthancPluginContext *context);
#endif

#endif
