/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/routes.h - what the script has registered, and the C entry points behind it
 *
 * Here:      REST routes (each with a C entry point of its own), which other kinds of
 *            callbacks have a handler, comparing a new host with its predecessor.
 * Elsewhere: running them (callback_*.c).
 *
 * OnChange, OnStored and the HTTP filter are registered with Orthanc once, in
 * OrthancPluginInitialize, and do nothing while the script has no handler: harmless
 * (core notes 1.8). REST routes are registered when the script asks.
 */
#ifndef OPB_ROUTES_H
#define OPB_ROUTES_H

#include "session.h"

#include "protocol/words.h"

#define OPB_MAX_ROUTES 16384u

OPB_MUST_CHECK enum opb_status opb_routes_new(struct opb_routes **out,
                                              struct opb_node *node);
void opb_routes_free(struct opb_routes *routes);

/* Registers the always-present callbacks with Orthanc (OnChange, OnStored, filter). */
void opb_routes_register_fixed(struct opb_routes *routes);

/* The host of a session begins to load: what it registers goes into a table of its own, and
 * the other hosts keep theirs. The session is a name here, and never looked into. */
void opb_routes_begin(struct opb_routes *routes, const struct opb_session *session);
/* The same for a host that has to register what another one has registered already: nothing
 * is registered with Orthanc for it. */
void opb_routes_begin_follower(struct opb_routes *routes,
                               const struct opb_session *session);
/* Whether two hosts have registered different things; text says what. */
bool opb_routes_differ(struct opb_routes *routes, const struct opb_session *session,
                       const struct opb_session *other, char *text, size_t capacity);
/* Its table is about to be the current one: until that is so, kinds that only one of both
 * has are not called, since a call may still reach either host. */
void opb_routes_narrow(struct opb_routes *routes, const struct opb_session *session);
/* It does not become it: all that the current one has is called again. */
void opb_routes_widen(struct opb_routes *routes);
/* It has loaded: logs what it lacks that the table which new calls find has. */
void opb_routes_log_losses(struct opb_routes *routes, const struct opb_session *session);
/* It has loaded: its table is what new calls find. Calls nothing of Orthanc. */
void opb_routes_commit(struct opb_routes *routes, const struct opb_session *session);
/* It has loaded what new calls find already: calls may go to it, too. */
void opb_routes_join(struct opb_routes *routes, const struct opb_session *session);
/* After either: routes that wait for an entry point may have to be registered. */
void opb_routes_look_for_late(struct opb_routes *routes);
/* It has ended, or could not load. What new calls find stays. */
void opb_routes_forget(struct opb_routes *routes, const struct opb_session *session);

/* The script of a session registers. kind is a call name; index the host's number of a
 * route. Runs on the thread that executes the SDK call. On refusal text says why, and
 * *fault which exception the script gets. */
OPB_MUST_CHECK enum opb_status opb_routes_add(struct opb_routes *routes,
                                              const struct opb_session *session,
                                              const char *kind, const char *pattern,
                                              uint32_t index, enum opb_fault *fault,
                                              char *text, size_t capacity);

bool opb_routes_has(struct opb_routes *routes, enum opb_call_index kind);
/* The same for the host of a session. */
bool opb_routes_session_has(struct opb_routes *routes, const struct opb_session *session,
                            enum opb_call_index kind);
/* The number that the host of a session has for an entry point; false if it has none (404).
 */
bool opb_routes_lookup(struct opb_routes *routes, const struct opb_session *session,
                       uint32_t entry, uint32_t *index);
/* Lends the pattern of an entry point, for logs. */
const char *opb_routes_pattern(struct opb_routes *routes, uint32_t entry);

/* Routes without an entry point, of the current host (late_routes.c). */
bool opb_routes_has_waiting(struct opb_routes *routes);
/* Registers them with Orthanc on the calling thread, which must be inside no callback,
 * while no REST callback runs. Says how many now work. */
uint32_t opb_routes_register_waiting(struct opb_routes *routes);
/* What new calls would find if it could be registered with Orthanc. */
enum opb_route_wait {
    OPB_ROUTE_WAITS,        /* a REST route, until it is safe (late_routes.h) */
    OPB_ROUTE_NEEDS_RESTART /* a REST route or another kind, by its description */
};
/* Calls visit for each, with a lock held: it must call nothing of ours or Orthanc's. */
void opb_routes_each_waiting(struct opb_routes *routes,
                             void (*visit)(void *context, const char *what,
                                           enum opb_route_wait wait),
                             void *context);
/* Gives them up: logs that they need a restart of Orthanc, and why. */
void opb_routes_refuse_waiting(struct opb_routes *routes, const char *why);
struct opb_late *opb_routes_late(struct opb_routes *routes);

/* The C callbacks (callback_*.c) */
OrthancPluginErrorCode opb_callback_rest(uint32_t entry, OrthancPluginRestOutput *output,
                                         const char *url,
                                         const OrthancPluginHttpRequest *request);
OrthancPluginErrorCode opb_callback_change(OrthancPluginChangeType change,
                                           OrthancPluginResourceType resource_type,
                                           const char *resource_id);
OrthancPluginErrorCode opb_callback_stored(const OrthancPluginDicomInstance *instance,
                                           const char *instance_id);
int32_t opb_callback_filter(OrthancPluginHttpMethod method, const char *uri, const char *ip,
                            uint32_t header_count, const char *const *header_keys,
                            const char *const *header_values, uint32_t get_count,
                            const char *const *get_keys, const char *const *get_values);

#endif
