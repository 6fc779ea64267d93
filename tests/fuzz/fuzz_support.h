/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_support.h - a node of the plugin, for the fuzzers of plugin/
 *
 * Here:      an Orthanc that touches every byte it is given and lists what was registered;
 *            a node around it with one host that never dies; a peer at the pool's socket
 *            that welcomes each connection, says what the input says, and leaves.
 * Elsewhere: which bytes, and what must hold (the fuzzers).
 */
#ifndef OPB_FUZZ_SUPPORT_H
#define OPB_FUZZ_SUPPORT_H

#include "plugin/opb_plugin.h"

#include "plugin/node.h"
#include "plugin/session.h"

/* What the plugin has registered with Orthanc. */
struct fuzz_callbacks {
    OrthancPluginReceivedInstanceCallback received;
    OrthancPluginIncomingCStoreInstanceFilter cstore_filter;
    OrthancPluginFindCallback find;
    OrthancPluginWorklistCallback worklist;
    _OrthancPluginMoveCallback move;
    _OrthancPluginRegisterStorageArea storage;
    _OrthancPluginRegisterStorageCommitmentScpCallback commitment;
};

/* Made at the first call, for the life of the process. */
struct opb_node *fuzz_node(void);
struct opb_session *fuzz_session(void);
const struct fuzz_callbacks *fuzz_callbacks(void);

/* Scripts may log what they like; without this a control character in a line is a finding.
 */
void fuzz_let_script_log(void);

/* Lends the bytes until the next call: what peers say after the welcome. */
void fuzz_peer_says(const uint8_t *bytes, size_t byte_count);

void *fuzz_image(void); /* Gives a small image of Orthanc's; free() it */
void fuzz_touch(const void *bytes, size_t byte_count);
void fuzz_touch_text(const char *text); /* NULL is fine */

#endif
