/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/request_pack.c - packing the parts that all HTTP requests have
 *
 * Called by callback_rest.c and callback_filter.c.
 */
#include "request_pack.h"

static void
pack_text(struct opb_message *message, const char *text)
{
    opb_pack_cstr(message, text != NULL ? text : "");
}

void
opb_pack_text_map(struct opb_message *message, uint32_t count, const char *const *keys,
                  const char *const *values)
{
    opb_pack_map(message, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_text(message, keys[i]);
        pack_text(message, values[i]);
    }
}

void
opb_pack_text_array(struct opb_message *message, uint32_t count, const char *const *texts)
{
    opb_pack_array(message, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_text(message, texts[i]);
    }
}

const char *
opb_method_text(OrthancPluginHttpMethod method)
{
    switch ((int)method) {
    case OrthancPluginHttpMethod_Get:
        return "GET";
    case OrthancPluginHttpMethod_Post:
        return "POST";
    case OrthancPluginHttpMethod_Put:
        return "PUT";
    case OrthancPluginHttpMethod_Delete:
        return "DELETE";
    default:
        return "";
    }
}
