/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/settings.c - see settings.h */
#include "protocol/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
opb_setting_show(const json_t *value, char *out, size_t capacity)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    if (text == NULL) {
        (void)snprintf(out, capacity, "unreadable"); /* short enough */
        return;
    }
    if (strlen(text) < capacity) {
        strcpy(out, text);
    }
    else {
        (void)snprintf(out, capacity, "%.*s...", (int)(capacity - 4), text); /* fits */
    }
    free(text);
}
