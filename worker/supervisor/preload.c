/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/preload.c - what a node wants its zygote to be
 *
 * Here:      reading it from ATTACH, as the arguments of the zygote's program.
 * Elsewhere: the zygote itself (zygote.c).
 */
#include "worker/supervisor/pool.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char *const usual_arguments[] = {"orthanc-python-zygote", "--zygote-fd", "3"};
#define USUAL_COUNT (sizeof(usual_arguments) / sizeof(usual_arguments[0]))

/* False without memory. */
static bool
add(struct opb_preload *preload, const char *text)
{
    char **arguments =
        realloc(preload->arguments, (preload->count + 2u) * sizeof(*arguments));

    if (arguments == NULL) {
        return false;
    }
    preload->arguments = arguments;
    arguments[preload->count] = strdup(text);
    if (arguments[preload->count] == NULL) {
        return false;
    }
    preload->count++;
    arguments[preload->count] = NULL;
    return true;
}

/* Identifiers with dots between them. Python has the last word on letters beyond ASCII. */
static bool
is_module_name(const char *text)
{
    bool is_first = true;

    if (strlen(text) > OPB_MAX_MODULE_NAME_BYTES) {
        return false;
    }
    for (const char *c = text;; c++) {
        bool is_letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                         *c == '_' || (unsigned char)*c >= 0x80;

        if (is_first ? !is_letter
                     : !is_letter && !(*c >= '0' && *c <= '9') && *c != '.' && *c != '\0') {
            return false;
        }
        if (*c == '\0') {
            return true;
        }
        is_first = *c == '.';
    }
}

static void
read_modules(struct opb_preload *preload, struct opb_reader *reader)
{
    struct opb_reader items;
    uint32_t count = opb_read_array(reader, &items);

    if (count > OPB_MAX_PRELOADED) {
        reader->status = OPB_TOO_LARGE;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const char *name = opb_read_cstr(&items, false);

        if (items.status != OPB_OK || !is_module_name(name)) {
            reader->status = OPB_BAD_FRAME;
            return;
        }
        if (!add(preload, "--preload") || !add(preload, name)) {
            reader->status = OPB_NO_MEMORY;
            return;
        }
        preload->module_count++;
    }
}

static void
read_environment(struct opb_preload *preload, struct opb_reader *reader)
{
    const char *path = opb_read_cstr(reader, false);

    if (reader->status != OPB_OK || path[0] != '/' || strlen(path) >= PATH_MAX ||
        preload->environment != NULL) {
        reader->status = OPB_BAD_FRAME;
        return;
    }
    preload->environment = strdup(path);
    if (preload->environment == NULL || !add(preload, "--venv") || !add(preload, path)) {
        reader->status = OPB_NO_MEMORY;
    }
}

static void
read_pair(struct opb_preload *preload, struct opb_reader *items)
{
    size_t bytes = 0;
    const char *key = opb_read_str(items, &bytes);

    if (bytes == strlen("preload") && memcmp(key, "preload", bytes) == 0) {
        read_modules(preload, items);
    }
    else if (bytes == strlen("verbose") && memcmp(key, "verbose", bytes) == 0) {
        if (opb_read_bool(items) && !add(preload, "--verbose")) {
            items->status = OPB_NO_MEMORY;
        }
    }
    else if (bytes == strlen("venv") && memcmp(key, "venv", bytes) == 0) {
        read_environment(preload, items);
    }
    else if (bytes == strlen("starting") && memcmp(key, "starting", bytes) == 0) {
        preload->is_strict = opb_read_bool(items);
    }
    else {
        opb_read_skip(items); /* a newer node may say more */
    }
}

void
opb_preload_read(struct opb_preload *out, struct opb_reader *reader)
{
    struct opb_reader items;
    uint32_t count;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < USUAL_COUNT; i++) {
        if (!add(out, usual_arguments[i])) {
            reader->status = OPB_NO_MEMORY;
            return;
        }
    }
    if (reader->status != OPB_OK || reader->left == 0) {
        return; /* an older node says nothing of it */
    }
    count = opb_read_map(reader, &items);
    for (uint32_t i = 0; i < count && items.status == OPB_OK; i++) {
        read_pair(out, &items);
    }
    if (reader->status == OPB_OK) {
        reader->status = items.status;
    }
}

void
opb_preload_free(struct opb_preload *preload)
{
    for (uint32_t i = 0; i < preload->count; i++) {
        free(preload->arguments[i]);
    }
    free(preload->arguments);
    free(preload->environment);
    memset(preload, 0, sizeof(*preload));
}
