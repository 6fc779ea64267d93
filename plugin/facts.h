/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/facts.h - lending an object to a call, with what the script surely asks about it
 *
 * Here:      which results of SDK functions are sent along with a handle, and how many.
 * Elsewhere: what the host makes of them (worker/module/facts.c), which functions qualify
 *            (protocol/generator/annotations.py).
 *
 * Only what Orthanc answers without work, and without a line in its log, is sent. Whatever
 * is not sent is asked for, as if there were no facts.
 */
#ifndef OPB_FACTS_H
#define OPB_FACTS_H

#include "session.h"

#include "protocol/message.h"

/* The tags of a query that are told, and the bytes of their names and values. */
#define OPB_FACT_TAGS  64u
#define OPB_FACT_BYTES 16384u

/* Lends an object to the host of a session and packs its handle, as one value, with what
 * is known of an object of its class. Gives the handle, for opb_handle_end(); 0 without
 * memory. */
uint64_t opb_facts_lend(struct opb_message *message, struct opb_session *session,
                        enum opb_class class_id, const void *object);
/* The same for an instance whose file Orthanc has made already, so that it knows its size.
 */
uint64_t opb_facts_lend_stored(struct opb_message *message, struct opb_session *session,
                               const OrthancPluginDicomInstance *instance);

#endif
