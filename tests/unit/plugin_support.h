/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/plugin_support.h - an Orthanc and a host that the tests of plugin/ control
 *
 * Here:      a context whose services are functions of the test, with the log it got; a
 * node around it; a pool socket with threads that play the host. Elsewhere: the behaviour
 * under test.
 */
#ifndef OPB_PLUGIN_SUPPORT_H
#define OPB_PLUGIN_SUPPORT_H

#include "plugin/opb_plugin.h"

#include "plugin/node.h"
#include "plugin/session.h"

#include "support.h"

/* The server. */
typedef OrthancPluginErrorCode (*fake_service)(const void *params);
void fake_orthanc_reset(void);
OrthancPluginContext *fake_orthanc(void); /* "1.10.1" */
void fake_on(_OrthancPluginService service, fake_service function);
unsigned fake_calls(_OrthancPluginService service); /* how often it was called */
bool fake_log_has(const char *text);
unsigned fake_log_count(const char *text);
void fake_await_log(const char *text); /* said by another thread, soon */

/* A node, current, in OPB_PHASE_RUNNING, with routes and without a host. */
struct opb_node *fake_node_new(void);
void fake_node_free(struct opb_node *node); /* ends the host too */

/* Plays one request of the node. It must send one response. */
typedef void (*fake_serve)(struct opb_lane *lane, struct opb_frame *request,
                           struct opb_message *message);
/* Begins to accept lanes at the node's pool socket; each gets a thread that calls serve. */
void fake_host_start(struct opb_node *node, fake_serve serve);
void fake_host_serve(fake_serve serve);                        /* another one from now on */
struct opb_session *fake_host_activate(struct opb_node *node); /* a new session, lent */
/* Ends the lanes as a dead process would, then the session. */
void fake_host_kill(const char *reason);
unsigned fake_host_lanes(void); /* accepted so far */

/* For serve functions. */
uint32_t fake_lane_host(void);          /* the host that the lane was opened to */
uint32_t fake_method(const char *name); /* of an SDK function */
/* Reads a handle that a call lends. facts (may be NULL) are what came along with it, as
 * method, result, ...; none are left if none did. */
uint64_t fake_read_lent(struct opb_reader *reader, struct opb_reader *facts);
void fake_send(struct opb_lane *lane, struct opb_message *message);
void fake_answer_nil(struct opb_lane *lane, struct opb_frame *request,
                     struct opb_message *message);
void fake_answer_fault(struct opb_lane *lane, struct opb_frame *request,
                       struct opb_message *message, enum opb_fault fault, const char *text);
/* An SDK call: begin a request in message, pack, then this. nested serves what comes
 * meanwhile; may be NULL. *response may be NULL; else it is yours. */
enum opb_status fake_sdk_call(struct opb_lane *lane, struct opb_message *message,
                              fake_serve nested, struct opb_frame **response);

#endif
