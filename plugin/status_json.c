/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/status_json.c - JSON values of the status */
#include "plugin/status_json.h"

#include "protocol/sockets.h"

#include <string.h>
#include <time.h>

#define DATE_BYTES 32u

void
opb_json_set(json_t *object, const char *key, json_t *value)
{
    (void)json_object_set_new(object, key, value); /* a field less, then */
}

void
opb_json_set_count(json_t *object, const char *key, uint64_t count)
{
    opb_json_set(object, key, json_integer((json_int_t)count));
}

void
opb_json_set_age(json_t *object, const char *key, uint64_t since_ms)
{
    opb_json_set(object, key, json_real((double)(opb_clock_ms() - since_ms) / 1000.0));
}

void
opb_json_set_time(json_t *object, const char *key, uint64_t us)
{
    opb_json_set(object, key, json_real((double)us / 1e6));
}

json_t *
opb_json_text(const char *text)
{
    size_t bytes = strlen(text);
    json_t *value = json_stringn(text, bytes);

    for (int i = 0; i < 3 && value == NULL && bytes > 0; i++) {
        value = json_stringn(text, --bytes);
    }
    return value != NULL ? value : json_string("(not UTF-8)");
}

json_t *
opb_json_date(int64_t at_ms)
{
    char date[DATE_BYTES] = "";
    time_t seconds = (time_t)(at_ms / 1000);
    struct tm parts;

    if (gmtime_r(&seconds, &parts) != NULL) {
        (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &parts); /* fits */
    }
    return json_string(date);
}
