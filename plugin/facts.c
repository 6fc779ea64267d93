/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/facts.c - lending an object to a call, with what the script surely asks about it
 *
 * Here:      facts.h, class by class.
 * Elsewhere: the same functions, when a host calls them (generated, sdk_custom.c).
 *
 * Runs on the Orthanc thread of the call, before the host knows the handle: nobody else
 * uses the object yet.
 */
#include "facts.h"

#include "handles.h"
#include "kinds.h"
#include "sdk_facts.gen.h"

#include <stdio.h>
#include <string.h>

#define UNKNOWN_NAME   "Unknown Tag & Data" /* what Orthanc calls a tag of no dictionary */
#define TAG_TEXT_BYTES 16u

struct tag {
    uint16_t group;
    uint16_t element;
    char *name;  /* owned, the SDK's; NULL: not told */
    char *value; /* the same */
};

/* A value that is no text is an error, which Orthanc logs: only a script may cause that. So
 * what the dictionary says decides whether it is asked for. */
static bool
has_text(OrthancPluginContext *context, const struct tag *tag)
{
    OrthancPluginDictionaryEntry entry = {.vr = OrthancPluginValueRepresentation_UN};
    char text[TAG_TEXT_BYTES];

    if (tag->group % 2 != 0 || tag->name == NULL || strcmp(tag->name, UNKNOWN_NAME) == 0) {
        return false; /* private, or unknown, which is logged too */
    }
    (void)snprintf(text, sizeof(text), "%04x,%04x", tag->group, tag->element);
    if (OrthancPluginLookupDictionary(context, &entry, text) !=
        OrthancPluginErrorCode_Success) {
        return false;
    }
    switch (entry.vr) {
    case OrthancPluginValueRepresentation_AE:
    case OrthancPluginValueRepresentation_AS:
    case OrthancPluginValueRepresentation_CS:
    case OrthancPluginValueRepresentation_DA:
    case OrthancPluginValueRepresentation_DS:
    case OrthancPluginValueRepresentation_DT:
    case OrthancPluginValueRepresentation_IS:
    case OrthancPluginValueRepresentation_LO:
    case OrthancPluginValueRepresentation_LT:
    case OrthancPluginValueRepresentation_PN:
    case OrthancPluginValueRepresentation_SH:
    case OrthancPluginValueRepresentation_ST:
    case OrthancPluginValueRepresentation_TM:
    case OrthancPluginValueRepresentation_UI:
    case OrthancPluginValueRepresentation_UT:
        return true;
    default: /* numbers, bytes, sequences, and what newer servers know */
        return false;
    }
}

static size_t
text_bytes(const char *text)
{
    return text != NULL ? strlen(text) : 0;
}

static void
free_tag(OrthancPluginContext *context, struct tag *tag)
{
    OrthancPluginFreeString(context, tag->name);
    OrthancPluginFreeString(context, tag->value);
    tag->name = NULL;
    tag->value = NULL;
}

/* Reads the first tags of a query. Gives how many they are; each is to be freed. */
static uint32_t
read_tags(OrthancPluginContext *context, const OrthancPluginFindQuery *query, uint32_t size,
          struct tag tags[OPB_FACT_TAGS])
{
    bool is_text = true; /* false: the dictionary is wrong about this query */
    size_t bytes = 0;
    uint32_t count = 0;

    while (count < size && count < OPB_FACT_TAGS) {
        struct tag *tag = &tags[count];

        memset(tag, 0, sizeof(*tag));
        if (OrthancPluginGetFindQueryTag(context, &tag->group, &tag->element, query,
                                         count) != OrthancPluginErrorCode_Success) {
            break;
        }
        tag->name = OrthancPluginGetFindQueryTagName(context, query, count);
        if (is_text && has_text(context, tag)) {
            tag->value = OrthancPluginGetFindQueryValue(context, query, count);
            is_text = tag->value != NULL;
        }
        bytes += text_bytes(tag->name) + text_bytes(tag->value);
        if (bytes > OPB_FACT_BYTES) {
            free_tag(context, tag);
            break;
        }
        count++;
    }
    return count;
}

/* One of the results that there are for each tag. */
static void
pack_result(struct opb_message *message, enum opb_fact fact, const struct tag *tag)
{
    switch (fact) {
    case OPB_FACT_FindQuery_GetFindQueryTagGroup:
        opb_pack_uint(message, tag->group);
        break;
    case OPB_FACT_FindQuery_GetFindQueryTagElement:
        opb_pack_uint(message, tag->element);
        break;
    case OPB_FACT_FindQuery_GetFindQueryTagName:
        opb_pack_cstr(message, tag->name);
        break;
    default:
        opb_pack_cstr(message, tag->value); /* NULL: nil, which is not told */
        break;
    }
}

static void
pack_results(struct opb_message *message, enum opb_fact fact, const struct tag *tags,
             uint32_t count)
{
    opb_pack_uint(message, fact);
    opb_pack_array(message, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_result(message, fact, &tags[i]);
    }
}

static void
pack_query(struct opb_message *message, OrthancPluginContext *context,
           const OrthancPluginFindQuery *query)
{
    struct tag tags[OPB_FACT_TAGS];
    uint32_t size = OrthancPluginGetFindQuerySize(context, query);
    uint32_t count = read_tags(context, query, size, tags);

    opb_pack_map(message, 5);
    opb_pack_uint(message, OPB_FACT_FindQuery_GetFindQuerySize);
    opb_pack_uint(message, size);
    pack_results(message, OPB_FACT_FindQuery_GetFindQueryTagGroup, tags, count);
    pack_results(message, OPB_FACT_FindQuery_GetFindQueryTagElement, tags, count);
    pack_results(message, OPB_FACT_FindQuery_GetFindQueryTagName, tags, count);
    pack_results(message, OPB_FACT_FindQuery_GetFindQueryValue, tags, count);
    for (uint32_t i = 0; i < count; i++) {
        free_tag(context, &tags[i]);
    }
}

static void
pack_instance(struct opb_message *message, OrthancPluginContext *context,
              const OrthancPluginDicomInstance *instance, bool is_stored)
{
    opb_pack_map(message, is_stored ? 3 : 2);
    opb_pack_uint(message, OPB_FACT_DicomInstance_GetInstanceOrigin);
    opb_pack_int(message, (int64_t)OrthancPluginGetInstanceOrigin(context, instance));
    opb_pack_uint(message, OPB_FACT_DicomInstance_GetInstanceRemoteAet);
    opb_pack_cstr(message, OrthancPluginGetInstanceRemoteAet(context, instance));
    if (is_stored) {
        opb_pack_uint(message, OPB_FACT_DicomInstance_GetInstanceSize);
        opb_pack_int(message, OrthancPluginGetInstanceSize(context, instance));
    }
}

#if OPB_SDK_HAS_CONNECTION
static void
pack_connection(struct opb_message *message, OrthancPluginContext *context,
                const OrthancPluginDicomConnection *connection)
{
    opb_pack_map(message, 3);
    opb_pack_uint(message, OPB_FACT_DicomConnection_GetConnectionRemoteAet);
    opb_pack_cstr(message, OrthancPluginGetConnectionRemoteAet(context, connection));
    opb_pack_uint(message, OPB_FACT_DicomConnection_GetConnectionRemoteIp);
    opb_pack_cstr(message, OrthancPluginGetConnectionRemoteIp(context, connection));
    opb_pack_uint(message, OPB_FACT_DicomConnection_GetConnectionCalledAet);
    opb_pack_cstr(message, OrthancPluginGetConnectionCalledAet(context, connection));
}
#endif

static uint64_t
lend(struct opb_session *session, enum opb_class class_id, const void *object)
{
    /* the functions of the SDK take what was lent as const again */
    return opb_handle_lend(opb_session_handles(session), class_id,
                           (void *)(uintptr_t)object);
}

uint64_t
opb_facts_lend(struct opb_message *message, struct opb_session *session,
               enum opb_class class_id, const void *object)
{
    OrthancPluginContext *context = opb_session_node(session)->context;
    uint64_t handle = lend(session, class_id, object);

    switch ((int)class_id) {
    case OPB_CLASS_FindQuery:
        opb_pack_array(message, 2);
        opb_pack_uint(message, handle);
        pack_query(message, context, object);
        break;
    case OPB_CLASS_DicomInstance:
        opb_pack_array(message, 2);
        opb_pack_uint(message, handle);
        pack_instance(message, context, object, false);
        break;
#if OPB_SDK_HAS_CONNECTION
    case OPB_CLASS_DicomConnection:
        opb_pack_array(message, 2);
        opb_pack_uint(message, handle);
        pack_connection(message, context, object);
        break;
#endif
    default: /* nothing that is constant, or that every script asks */
        opb_pack_uint(message, handle);
        break;
    }
    return handle;
}

uint64_t
opb_facts_lend_stored(struct opb_message *message, struct opb_session *session,
                      const OrthancPluginDicomInstance *instance)
{
    uint64_t handle = lend(session, OPB_CLASS_DicomInstance, instance);

    opb_pack_array(message, 2);
    opb_pack_uint(message, handle);
    pack_instance(message, opb_session_node(session)->context, instance, true);
    return handle;
}
