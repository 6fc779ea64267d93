/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/self_query.h - a C-FIND to this very server inside a C-FIND
 *
 * Here:      whether a POST to Orthanc's REST API is one, and can never be answered.
 * Elsewhere: the refusal (invocation.c), what else would wait for itself (deadlocks.c).
 */
#ifndef OPB_SELF_QUERY_H
#define OPB_SELF_QUERY_H

#include "node.h"

/* True if the calling thread is inside a C-FIND or worklist callback, and the POST is a
 * query to a modality that is this server; text then says so. function is the SDK function
 * that makes it, uri is not terminated. May ask Orthanc for its modalities, and the system
 * for the address of a host. */
bool opb_self_query_is_certain(struct opb_node *node, const char *function, const char *uri,
                               size_t uri_bytes, char *text, size_t capacity);

/* For tests: whether Orthanc could take a path for one that the pattern of a REST callback
 * is for; and whether a host, by name or address, is this machine for certain. */
bool opb_pattern_may_match(const char *pattern, const char *path);
bool opb_host_is_this_machine(const char *host);

#endif
