/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/config_script.c - PythonScript and Python.Path: a path, or an array of paths
 *
 * Elsewhere: what is at these paths (scripts.c), the other keys (config.c).
 */
#include "plugin/config_reading.h"

#include "protocol/limits.h"

#include <stdlib.h>
#include <string.h>

void
opb_config_forget_script(struct opb_config *config)
{
    for (uint32_t i = 0; i < config->script_count; i++) {
        free(config->script_list[i]);
    }
    free(config->script_list);
    free(config->script);
    config->script = NULL;
    config->script_list = NULL;
    config->script_count = 0;
}

/* New string, or NULL if the value is none, or has a NUL in it. */
static char *
copy_text(const json_t *value)
{
    const char *text = json_string_value(value);

    return text != NULL && strlen(text) == json_string_length(value) ? strdup(text) : NULL;
}

static enum opb_status
read_array(const struct opb_config_reading *reading, const struct opb_config_key *key,
           const json_t *value)
{
    struct opb_config *config = reading->config;
    size_t index;
    json_t *each;

    if (json_array_size(value) == 0 || json_array_size(value) > OPB_MAX_SCRIPTS) {
        return opb_config_refuse(reading, key, value,
                                 "a path, or an array of 1 to 64 paths of scripts");
    }
    config->script_list = calloc(json_array_size(value), sizeof(*config->script_list));
    config->script = strdup("");
    if (config->script_list == NULL || config->script == NULL) {
        return OPB_NO_MEMORY;
    }
    json_array_foreach(value, index, each)
    {
        char *path = copy_text(each);

        if (path == NULL || path[0] == '\0') {
            free(path);
            return opb_config_refuse(reading, key, value,
                                     "a path, or an array of paths of scripts: strings "
                                     "that are not empty, without NUL characters");
        }
        config->script_list[index] = path;
        config->script_count++;
    }
    return OPB_OK;
}

enum opb_status
opb_config_read_script(const struct opb_config_reading *reading,
                       const struct opb_config_key *key, const json_t *value)
{
    struct opb_config *config = reading->config;

    opb_config_forget_script(config); /* PythonScript replaces Python.Path */
    config->script_key = reading->prefix[0] == '\0' ? "PythonScript" : "Python.Path";
    if (json_is_array(value)) {
        return read_array(reading, key, value);
    }
    if (!json_is_string(value)) {
        return opb_config_refuse(reading, key, value,
                                 "a string (the path of a script, or of a directory with "
                                 "scripts) or an array of paths of scripts");
    }
    config->script = copy_text(value);
    return config->script != NULL
               ? OPB_OK
               : opb_config_refuse(reading, key, value, "a string without NUL characters");
}
