/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/callback_find.c - C-FIND requests and worklist requests
 *
 * Here:      the four kinds of calls, and the failure that the peer gets ("unable to
 *            process") whenever the script has not answered.
 * Elsewhere: the answers themselves (the generated dispatch of FindAnswers, ...).
 *
 * Orthanc serves one C-FIND at a time, under a lock (core notes 5.4).
 */
#include "call.h"
#include "config.h"
#include "facts.h"
#include "handles.h"
#include "kinds.h"
#include "log.h"
#include "routes.h"

#include <stdio.h>

#define WHAT_BYTES 256u
#define MAX_LENT   3u

struct find {
    enum opb_call_index kind;
    size_t lent_count;
    struct {
        enum opb_class class_id;
        const void *object;
        uint64_t handle;
    } lent[MAX_LENT];
    const char *issuer; /* NULL: the third object names the peer */
    const char *called;
};

static void
find_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct find *find = context;
    uint32_t count = (uint32_t)find->lent_count + (find->issuer != NULL ? 2u : 0u);

    opb_message_begin_request(message, (uint32_t)find->kind, count);
    for (size_t i = 0; i < find->lent_count; i++) {
        find->lent[i].handle =
            opb_facts_lend(message, session, find->lent[i].class_id, find->lent[i].object);
    }
    if (find->issuer != NULL) {
        opb_pack_cstr(message, find->issuer);
        opb_pack_cstr(message, find->called);
    }
}

static void
find_finish(struct opb_session *session, void *context)
{
    const struct find *find = context;

    for (size_t i = 0; i < find->lent_count; i++) {
        opb_handle_end(opb_session_handles(session), find->lent[i].handle);
    }
}

static OrthancPluginErrorCode
find_run(struct find *find)
{
    struct opb_node *node = opb_node_current();
    struct opb_call_io io = {.pack = find_pack, .finish = find_finish, .context = find};
    const struct opb_kind *kind = opb_kind(find->kind);
    char what[WHAT_BYTES];
    enum opb_outcome outcome;

    if (node == NULL) {
        return OrthancPluginErrorCode_Plugin;
    }
    if (!opb_routes_has(node->routes, find->kind)) {
        opb_log_error("A C-FIND request was refused: the script that runs now has not "
                      "registered the %s",
                      kind->description);
        return OrthancPluginErrorCode_Plugin;
    }
    if (find->issuer != NULL) {
        (void)snprintf(what, sizeof(what), "%s for %s", kind->description, find->issuer);
    }
    else {
        (void)snprintf(what, sizeof(what), "%s", kind->description);
    }
    outcome = opb_call_run(node, find->kind, &io, what, OPB_FOREVER);
    return outcome == OPB_CALL_DONE       ? OrthancPluginErrorCode_Success
           : outcome == OPB_CALL_ENCODING ? OrthancPluginErrorCode_InternalError
                                          : OrthancPluginErrorCode_Plugin;
}

static const char *
text_or_empty(const char *text)
{
    return text != NULL ? text : "";
}

static OrthancPluginErrorCode
on_find(OrthancPluginFindAnswers *answers, const OrthancPluginFindQuery *query,
        const char *issuer, const char *called)
{
    struct find find = {.kind = OPB_CALL_FIND_INDEX,
                        .lent_count = 2,
                        .lent = {{.class_id = OPB_CLASS_FindAnswers, .object = answers},
                                 {.class_id = OPB_CLASS_FindQuery, .object = query}},
                        .issuer = text_or_empty(issuer),
                        .called = text_or_empty(called)};

    return find_run(&find);
}

OrthancPluginErrorCode
opb_register_find(OrthancPluginContext *context)
{
    return OrthancPluginRegisterFindCallback(context, on_find);
}

static OrthancPluginErrorCode
on_worklist(OrthancPluginWorklistAnswers *answers, const OrthancPluginWorklistQuery *query,
            const char *issuer, const char *called)
{
    struct find find = {.kind = OPB_CALL_WORKLIST_INDEX,
                        .lent_count = 2,
                        .lent = {{.class_id = OPB_CLASS_WorklistAnswers, .object = answers},
                                 {.class_id = OPB_CLASS_WorklistQuery, .object = query}},
                        .issuer = text_or_empty(issuer),
                        .called = text_or_empty(called)};

    return find_run(&find);
}

OrthancPluginErrorCode
opb_register_worklist(OrthancPluginContext *context)
{
    return OrthancPluginRegisterWorklistCallback(context, on_worklist);
}

#if OPB_SDK_HAS_CONNECTION
static OrthancPluginErrorCode
on_find2(OrthancPluginFindAnswers *answers, const OrthancPluginFindQuery *query,
         const OrthancPluginDicomConnection *connection)
{
    struct find find = {
        .kind = OPB_CALL_FIND2_INDEX,
        .lent_count = 3,
        .lent = {{.class_id = OPB_CLASS_FindAnswers, .object = answers},
                 {.class_id = OPB_CLASS_FindQuery, .object = query},
                 {.class_id = OPB_CLASS_DicomConnection, .object = connection}}};

    return find_run(&find);
}

OrthancPluginErrorCode
opb_register_find2(OrthancPluginContext *context)
{
    return OrthancPluginRegisterFindCallback2(context, on_find2);
}

static OrthancPluginErrorCode
on_worklist2(OrthancPluginWorklistAnswers *answers, const OrthancPluginWorklistQuery *query,
             const OrthancPluginDicomConnection *connection)
{
    struct find find = {
        .kind = OPB_CALL_WORKLIST2_INDEX,
        .lent_count = 3,
        .lent = {{.class_id = OPB_CLASS_WorklistAnswers, .object = answers},
                 {.class_id = OPB_CLASS_WorklistQuery, .object = query},
                 {.class_id = OPB_CLASS_DicomConnection, .object = connection}}};

    return find_run(&find);
}

OrthancPluginErrorCode
opb_register_worklist2(OrthancPluginContext *context)
{
    return OrthancPluginRegisterWorklistCallback2(context, on_worklist2);
}
#endif
