/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/status_json.h - what the parts of the status share
 *
 * Here:      JSON values, and which file describes what. Without memory values are NULL,
 *            for which jansson does nothing: then a field is missing.
 * Elsewhere: the whole (node_status.c); docs/admin-api.md, which says what fields mean.
 */
#ifndef OPB_STATUS_JSON_H
#define OPB_STATUS_JSON_H

#include "node.h"

#include <jansson.h>

/* Takes value. */
void opb_json_set(json_t *object, const char *key, json_t *value);
void opb_json_set_count(json_t *object, const char *key, uint64_t count);
/* Seconds since a time of opb_clock_ms(). */
void opb_json_set_age(json_t *object, const char *key, uint64_t since_ms);
/* Microseconds, as seconds. */
void opb_json_set_time(json_t *object, const char *key, uint64_t us);
/* Of what is UTF-8 in text, which may have been cut inside a character. */
json_t *opb_json_text(const char *text);
/* Milliseconds since 1970, as "2026-01-31T12:00:00Z". */
json_t *opb_json_date(int64_t at_ms);

/* status_calls.c. Calls nothing of Orthanc. */
json_t *opb_status_callbacks(struct opb_node *node); /* object, by name of their kind */
json_t *opb_status_routes(struct opb_node *node);    /* array */
/* status_hosts.c */
/* Arrays of objects: "Hosts", which serve, "StartingHosts", "EndingHosts". */
void opb_status_set_hosts(struct opb_node *node, json_t *status);
struct opb_session;
#define OPB_HOST_SERVING "serving"
/* Calls visit for each host that lives, with a reference that is held meanwhile, and with
 * a static word for its state. No lock is held. */
void opb_hosts_each(struct opb_node *node,
                    void (*visit)(void *context, struct opb_session *session,
                                  const char *state),
                    void *context);
/* status_history.c */
json_t *opb_status_restarts(struct opb_node *node); /* array */
/* Lends restarts. */
json_t *opb_status_deaths(struct opb_node *node, const json_t *restarts);
json_t *opb_status_exceptions(struct opb_node *node);
json_t *opb_status_generations(struct opb_node *node);

#endif
