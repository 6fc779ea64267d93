/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/scripts.c - which scripts a generation of hosts runs
 *
 * One script is looked at as the official plugin does, in its words. What that one refuses,
 * a directory or an array, means several.
 */
#include "plugin/scripts.h"

#include "protocol/limits.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct list {
    struct opb_scripts scripts; /* first: what others see */
    atomic_uint references;
    size_t byte_count; /* of all paths */
    struct file {
        dev_t device;
        ino_t number;
    } files[OPB_MAX_SCRIPTS];
    char *paths[OPB_MAX_SCRIPTS];
};

struct finding {
    struct opb_config *config;
    struct list *list;
    char *message;
    size_t capacity;
};

struct opb_scripts *
opb_scripts_ref(struct opb_scripts *scripts)
{
    struct list *list = (struct list *)(void *)scripts;

    if (list != NULL) {
        (void)atomic_fetch_add(&list->references, 1);
    }
    return scripts;
}

void
opb_scripts_unref(struct opb_scripts *scripts)
{
    struct list *list = (struct list *)(void *)scripts;

    if (list == NULL || atomic_fetch_sub(&list->references, 1) != 1) {
        return;
    }
    for (uint32_t i = 0; i < list->scripts.count; i++) {
        free(list->paths[i]);
    }
    free(list);
}

void
opb_scripts_pack(const struct opb_scripts *scripts, struct opb_message *message)
{
    const uint32_t count = scripts != NULL ? scripts->count : 0;

    opb_pack_array(message, count);
    for (uint32_t i = 0; i < count; i++) {
        opb_pack_cstr(message, scripts->paths[i]);
    }
}

bool
opb_scripts_are_several(const struct opb_config *config)
{
    return config->script_directory != NULL || config->script_list != NULL;
}

static const char *
base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

/* Where the extension begins, or NULL if it is another one than .py, in any case. */
static const char *
extension_of(const char *path)
{
    const char *dot = strrchr(base_of(path), '.');

    return dot != NULL && strcasecmp(dot, ".py") == 0 ? dot : NULL;
}

bool
opb_scripts_is_name(const char *name)
{
    size_t bytes = strlen(name);

    return name[0] != '_' && name[0] != '.' && bytes > 3 &&
           strcmp(name + bytes - 3, ".py") == 0;
}

/* New string; NULL: errno says why not. */
static char *
absolute_path(const char *path)
{
    char *directory;
    char *result = NULL;

    if (path[0] == '/') {
        return strdup(path);
    }
    directory = getcwd(NULL, 0);
    if (directory == NULL) {
        return NULL;
    }
    if (asprintf(&result, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, path) <
        0) {
        result = NULL;
    }
    free(directory);
    return result;
}

/* What is found is of no use. Messages that do not fit are cut. */
static enum opb_status
refuse(const struct finding *finding, const char *value, const char *rest)
{
    (void)snprintf(finding->message, finding->capacity,
                   "The configuration option \"%s\" names \"%.200s\"%s",
                   finding->config->script_key, value, rest);
    return OPB_REFUSED;
}

static enum opb_status
refuse_no_directory(const struct finding *finding, const char *path)
{
    (void)snprintf(finding->message, finding->capacity,
                   "The current directory, to which the Python script %s is relative, "
                   "cannot be found: %s",
                   path, strerror(errno));
    return OPB_REFUSED;
}

static enum opb_status
refuse_pair(const struct finding *finding, const char *first, const char *second,
            const char *rest)
{
    (void)snprintf(finding->message, finding->capacity,
                   "The configuration option \"%s\" names \"%.200s\" and \"%.200s\", %s",
                   finding->config->script_key, first, second, rest);
    return OPB_REFUSED;
}

static bool
is_same_module(const char *one, const char *two)
{
    size_t one_bytes = (size_t)(extension_of(one) - base_of(one));
    size_t two_bytes = (size_t)(extension_of(two) - base_of(two));

    return one_bytes == two_bytes && memcmp(base_of(one), base_of(two), one_bytes) == 0;
}

/* Takes *path, which has its extension, and whose file is there. */
static enum opb_status
add(const struct finding *finding, char **path, const struct stat *file)
{
    struct list *list = finding->list;
    const uint32_t count = list->scripts.count;

    if (count == OPB_MAX_SCRIPTS) {
        return refuse(finding, *path,
                      ", which is one script too many: at most 64 are "
                      "possible");
    }
    list->byte_count += strlen(*path) + 1;
    if (strlen(*path) >= PATH_MAX || list->byte_count > OPB_MAX_SCRIPT_BYTES) {
        return refuse(finding, *path,
                      ": the paths of the scripts are too long, and may "
                      "have 4095 bytes each and 65536 together");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (list->files[i].device == file->st_dev &&
            list->files[i].number == file->st_ino) {
            return refuse_pair(finding, list->paths[i], *path,
                               "which are one file: each script can be named once");
        }
        if (is_same_module(list->paths[i], *path)) {
            return refuse_pair(finding, list->paths[i], *path,
                               "which would be one module of Python, since their files "
                               "have one name: rename one of them");
        }
    }
    list->files[count] = (struct file){.device = file->st_dev, .number = file->st_ino};
    list->paths[count] = *path;
    list->scripts.count++;
    *path = NULL;
    return OPB_OK;
}

static enum opb_status
check_module_name(const struct finding *finding, const char *path)
{
    const char *name = base_of(path);
    const char *dot = extension_of(path);

    if (dot != name && strcasecmp(name, "orthanc.py") != 0) {
        return OPB_OK;
    }
    (void)snprintf(finding->message, finding->capacity,
                   "The Python script %s cannot be imported as a module named \"%.*s\": "
                   "rename the file",
                   path, (int)(dot - name), name);
    return OPB_REFUSED;
}

/* Takes nothing. file: what stat() has said of the script. */
static enum opb_status
add_file(const struct finding *finding, const char *script, const struct stat *file)
{
    enum opb_status status = check_module_name(finding, script);
    char *path;

    if (status != OPB_OK) {
        return status;
    }
    path = absolute_path(script);
    if (path == NULL) {
        return refuse_no_directory(finding, script);
    }
    status = add(finding, &path, file);
    free(path);
    return status;
}

/* As the official plugin looks at it. */
static enum opb_status
find_one(const struct finding *finding)
{
    const char *script = finding->config->script;
    struct stat file;

    if (extension_of(script) == NULL) {
        (void)snprintf(finding->message, finding->capacity,
                       "Python script must have the \".py\" file extension: %s", script);
        return OPB_REFUSED;
    }
    if (stat(script, &file) != 0 || !S_ISREG(file.st_mode)) {
        (void)snprintf(finding->message, finding->capacity,
                       "Inexistent directory for the Python script: %s", script);
        return OPB_REFUSED;
    }
    return add_file(finding, script, &file);
}

/* One of several. Takes nothing. */
static enum opb_status
find_each(const struct finding *finding, const char *script)
{
    struct stat file;
    char rest[200];

    if (extension_of(script) == NULL) {
        return refuse(finding, script,
                      ", which must be a file whose name ends with \".py\"");
    }
    if (stat(script, &file) != 0) {
        (void)snprintf(rest, sizeof(rest), ", which must be a file: %s", strerror(errno));
        return refuse(finding, script, rest);
    }
    if (!S_ISREG(file.st_mode)) {
        return refuse(finding, script, ", which is no file, and must be one");
    }
    return add_file(finding, script, &file);
}

static int
is_candidate(const struct dirent *entry)
{
    return opb_scripts_is_name(entry->d_name);
}

/* Byte by byte, whatever the locale. */
static int
compare_names(const struct dirent **one, const struct dirent **two)
{
    return strcmp((*one)->d_name, (*two)->d_name);
}

/* A directory of that name is none of our scripts. */
static enum opb_status
find_entry(const struct finding *finding, const char *directory, const char *name)
{
    enum opb_status status = OPB_OK;
    struct stat file;
    char *path = NULL;

    if (asprintf(&path, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, name) < 0) {
        (void)snprintf(finding->message, finding->capacity, "Not enough memory");
        return OPB_NO_MEMORY;
    }
    if (stat(path, &file) != 0 || !S_ISDIR(file.st_mode)) {
        status = find_each(finding, path);
    }
    free(path);
    return status;
}

static enum opb_status
find_in_directory(const struct finding *finding, const char *directory)
{
    enum opb_status status = OPB_OK;
    struct dirent **entries = NULL;
    int count = scandir(directory, &entries, is_candidate, compare_names);

    if (count < 0) {
        char rest[200];

        (void)snprintf(rest, sizeof(rest), ", a directory that cannot be read: %s",
                       strerror(errno));
        return refuse(finding, directory, rest);
    }
    for (int i = 0; i < count; i++) {
        if (status == OPB_OK) {
            status = find_entry(finding, directory, entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    if (status == OPB_OK && finding->list->scripts.count == 0) {
        return refuse(finding, directory,
                      ", a directory without scripts: it must hold at least one file whose "
                      "name ends with \".py\", and begins with neither \"_\" nor \".\"");
    }
    return status;
}

static bool
is_directory(const struct opb_config *config)
{
    struct stat file;

    return config->script_list == NULL && extension_of(config->script) == NULL &&
           stat(config->script, &file) == 0 && S_ISDIR(file.st_mode);
}

/* A directory by its absolute path, from the first time on. */
static enum opb_status
settle_directory(const struct finding *finding)
{
    struct opb_config *config = finding->config;
    char *path = absolute_path(config->script);
    size_t bytes;

    if (path == NULL) {
        return refuse_no_directory(finding, config->script);
    }
    bytes = strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/') {
        path[--bytes] = '\0';
    }
    config->script_directory = path;
    return OPB_OK;
}

/* How logs call what runs. */
static enum opb_status
settle_name(const struct finding *finding)
{
    struct opb_config *config = finding->config;
    const struct opb_scripts *scripts = &finding->list->scripts;
    int bytes;

    if (config->script_path != NULL) {
        return OPB_OK;
    }
    if (config->script_directory != NULL) {
        bytes = asprintf(&config->script_path, "%s/*.py", config->script_directory);
    }
    else if (scripts->count > 1) {
        bytes = asprintf(&config->script_path, "%s and %u more", scripts->paths[0],
                         scripts->count - 1);
    }
    else {
        bytes = asprintf(&config->script_path, "%s", scripts->paths[0]);
    }
    if (bytes < 0) {
        config->script_path = NULL;
        (void)snprintf(finding->message, finding->capacity, "Not enough memory");
        return OPB_NO_MEMORY;
    }
    return OPB_OK;
}

static enum opb_status
find_all(const struct finding *finding)
{
    struct opb_config *config = finding->config;
    enum opb_status status = OPB_OK;

    if (config->script_directory == NULL && is_directory(config)) {
        status = settle_directory(finding);
    }
    if (status == OPB_OK && config->script_directory != NULL) {
        status = find_in_directory(finding, config->script_directory);
    }
    else if (status == OPB_OK && config->script_list != NULL) {
        for (uint32_t i = 0; i < config->script_count && status == OPB_OK; i++) {
            status = find_each(finding, config->script_list[i]);
        }
    }
    else if (status == OPB_OK) {
        status = find_one(finding);
    }
    return status == OPB_OK ? settle_name(finding) : status;
}

enum opb_status
opb_scripts_find(struct opb_scripts **out, struct opb_config *config, char *message,
                 size_t capacity)
{
    struct list *list = calloc(1, sizeof(*list));
    struct finding finding = {
        .config = config, .list = list, .message = message, .capacity = capacity};
    enum opb_status status;

    *out = NULL;
    message[0] = '\0';
    if (list == NULL) {
        (void)snprintf(message, capacity, "Not enough memory"); /* short enough */
        return OPB_NO_MEMORY;
    }
    list->scripts.paths = list->paths;
    atomic_init(&list->references, 1);
    status = find_all(&finding);
    if (status != OPB_OK) {
        opb_scripts_unref(&list->scripts);
        return status;
    }
    *out = &list->scripts;
    return OPB_OK;
}
