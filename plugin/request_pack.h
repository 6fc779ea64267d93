/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/request_pack.h - packing the parts that all HTTP requests have */
#ifndef OPB_REQUEST_PACK_H
#define OPB_REQUEST_PACK_H

#include "opb_plugin.h"

#include "protocol/message.h"

/* A map of texts. Duplicate keys stay: the host's dict keeps the last. NULL texts are "".
 */
void opb_pack_text_map(struct opb_message *message, uint32_t count, const char *const *keys,
                       const char *const *values);
void opb_pack_text_array(struct opb_message *message, uint32_t count,
                         const char *const *texts);
/* "GET", ...; "" for what is no method. Lends. */
const char *opb_method_text(OrthancPluginHttpMethod method);

#endif
