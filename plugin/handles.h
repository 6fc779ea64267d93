/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/handles.h - SDK objects that a host holds, by number
 *
 * Here:      numbers that cannot be guessed into somebody else's object, kinds of
 *            ownership, pinning while an SDK call uses an object.
 * Elsewhere: which call lends what (callback_*.c), freeing through the SDK (generated).
 *
 * One table per session. A handle is 64 bits: slot and a nonce from a seeded generator. A
 * borrowed object dies with its call; opb_handle_end() waits until no SDK call uses it. One
 * SDK call at a time uses an object (the same thread may nest).
 */
#ifndef OPB_HANDLES_H
#define OPB_HANDLES_H

#include "opb_plugin.h"

#define OPB_PIN_WAIT_MS 60000u

struct opb_handles;

OPB_MUST_CHECK enum opb_status opb_handles_new(struct opb_handles **out);
/* Frees the owned objects through the SDK. Returns how many are lent still: there should be
 * none, since the calls that lent them are over. */
size_t opb_handles_free(struct opb_handles *handles, OrthancPluginContext *context);

/* 0 without memory. */
uint64_t opb_handle_lend(struct opb_handles *handles, enum opb_class class_id,
                         void *object);
uint64_t opb_handle_own(struct opb_handles *handles, enum opb_class class_id, void *object);
/* Ends a lent handle: stale from now on. 0 is fine. */
void opb_handle_end(struct opb_handles *handles, uint64_t handle);
/* NULL if stale, forged, or of another class, or if another thread's SDK call does not let
 * go of it within OPB_PIN_WAIT_MS. Unpin what was pinned. */
void *opb_handle_pin(struct opb_handles *handles, uint64_t handle, enum opb_class class_id);
void opb_handle_unpin(struct opb_handles *handles, uint64_t handle);
/* Frees an owned object through the SDK: now, or when the SDK call that uses it ends; stale
 * from now on either way. False if there is none. */
bool opb_handle_release(struct opb_handles *handles, uint64_t handle,
                        OrthancPluginContext *context);
/* A lent object remembers that something irrevocable was done with it (a RestOutput: an
 * answer was begun). */
void opb_handle_mark(struct opb_handles *handles, uint64_t handle);
bool opb_handle_is_marked(struct opb_handles *handles, uint64_t handle);
size_t opb_handles_count(struct opb_handles *handles); /* for tests and status */

#endif
