/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/config_calls.c - the keys that name kinds of callbacks
 *
 * Here:      Python.CallTimeout with its defaults, Python.FailOpen, and the names that they
 *            give to kinds.
 * Elsewhere: when a call is late (call.c), and what is answered then (policy.c).
 */
#include "plugin/config_reading.h"

#include <math.h>
#include <string.h>

/* Kinds of callbacks as the configuration names them. */
enum call_group {
    GROUP_NONE, /* not a callback of the script */
    GROUP_REST,
    GROUP_CHANGE,
    GROUP_STORED,
    GROUP_HTTP_FILTER,
    GROUP_RECEIVED,
    GROUP_CSTORE_FILTER,
    GROUP_FIND,
    GROUP_WORKLIST,
    GROUP_MOVE,
    GROUP_STORAGE,
    GROUP_COMMITMENT,
    GROUP_COUNT
};

static const char *const group_names[GROUP_COUNT] = {[GROUP_NONE] = "Default",
                                                     [GROUP_REST] = "Rest",
                                                     [GROUP_CHANGE] = "Change",
                                                     [GROUP_STORED] = "StoredInstance",
                                                     [GROUP_HTTP_FILTER] = "HttpFilter",
                                                     [GROUP_RECEIVED] = "ReceivedInstance",
                                                     [GROUP_CSTORE_FILTER] = "CStoreFilter",
                                                     [GROUP_FIND] = "Find",
                                                     [GROUP_WORKLIST] = "Worklist",
                                                     [GROUP_MOVE] = "Move",
                                                     [GROUP_STORAGE] = "StorageArea",
                                                     [GROUP_COMMITMENT] =
                                                         "StorageCommitment"};

/* What Orthanc runs under a lock of the whole server would stop all of it. */
#define LOCKED_MS (60u * 1000u)

static const struct {
    enum call_group group;
    uint32_t timeout_ms; /* by default */
} calls[OPB_CALL_COUNT] = {
    [OPB_CALL_REST_INDEX] = {GROUP_REST, 0},
    [OPB_CALL_CHANGE_INDEX] = {GROUP_CHANGE, 0},
    [OPB_CALL_STORED_INSTANCE_INDEX] = {GROUP_STORED, LOCKED_MS},
    [OPB_CALL_HTTP_FILTER_INDEX] = {GROUP_HTTP_FILTER, LOCKED_MS},
    [OPB_CALL_RECEIVED_INSTANCE_INDEX] = {GROUP_RECEIVED, LOCKED_MS},
    [OPB_CALL_CSTORE_FILTER_INDEX] = {GROUP_CSTORE_FILTER, LOCKED_MS},
    [OPB_CALL_FIND_INDEX] = {GROUP_FIND, LOCKED_MS},
    [OPB_CALL_FIND2_INDEX] = {GROUP_FIND, LOCKED_MS},
    [OPB_CALL_WORKLIST_INDEX] = {GROUP_WORKLIST, LOCKED_MS},
    [OPB_CALL_WORKLIST2_INDEX] = {GROUP_WORKLIST, LOCKED_MS},
    [OPB_CALL_MOVE_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE2_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE3_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE_SIZE_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE_APPLY_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE_FREE_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_STORAGE_CREATE_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_READ_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_REMOVE_INDEX] = {GROUP_STORAGE, LOCKED_MS},
    [OPB_CALL_STORAGE_CREATE3_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_READ3_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_REMOVE3_INDEX] = {GROUP_STORAGE, LOCKED_MS},
    [OPB_CALL_COMMITMENT_INDEX] = {GROUP_COMMITMENT, LOCKED_MS},
    [OPB_CALL_COMMITMENT2_INDEX] = {GROUP_COMMITMENT, LOCKED_MS},
    [OPB_CALL_COMMITMENT_LOOKUP_INDEX] = {GROUP_COMMITMENT, 0},
    [OPB_CALL_COMMITMENT_FREE_INDEX] = {GROUP_COMMITMENT, LOCKED_MS},
};

/* Seconds, or 0 for none, as milliseconds; false if the value is neither. */
static bool
to_timeout(const struct opb_config_key *key, const json_t *value, uint32_t *out)
{
    double seconds = json_number_value(value);

    if (!json_is_number(value) ||
        (seconds != 0.0 && !(seconds >= key->low && seconds <= key->high))) {
        return false;
    }
    *out = (uint32_t)lround(seconds * 1000);
    return true;
}

static enum call_group
find_group(const char *name)
{
    enum call_group group = GROUP_NONE;

    while (group < GROUP_COUNT && strcmp(name, group_names[group]) != 0) {
        group++;
    }
    return group;
}

static void
set_timeout(struct opb_config *config, enum call_group group, uint32_t timeout_ms)
{
    for (int i = 0; i < OPB_CALL_COUNT; i++) {
        if (calls[i].group != GROUP_NONE &&
            (group == GROUP_NONE || calls[i].group == group)) {
            config->call_timeout_ms[i] = timeout_ms;
        }
    }
}

enum opb_status
opb_config_read_timeouts(const struct opb_config_reading *reading,
                         const struct opb_config_key *key, json_t *value)
{
    static const char allowed[] =
        "0 (no limit), a number of seconds from 0.1 to 86400, or an object that gives such "
        "numbers to \"Default\" and kinds of callbacks: \"Rest\", \"Change\", "
        "\"StoredInstance\", \"HttpFilter\", \"ReceivedInstance\", \"CStoreFilter\", "
        "\"Find\", \"Worklist\", \"Move\", \"StorageArea\", \"StorageCommitment\"";
    json_t *general = json_is_object(value) ? json_object_get(value, "Default") : value;
    uint32_t timeout_ms;
    const char *name;
    json_t *each;

    if (general != NULL) {
        if (!to_timeout(key, general, &timeout_ms)) {
            return opb_config_refuse(reading, key, value, allowed);
        }
        set_timeout(reading->config, GROUP_NONE, timeout_ms);
    }
    json_object_foreach(value, name, each)
    {
        enum call_group group = find_group(name);

        if (group == GROUP_COUNT || !to_timeout(key, each, &timeout_ms)) {
            return opb_config_refuse(reading, key, value, allowed);
        }
        if (group != GROUP_NONE) {
            set_timeout(reading->config, group, timeout_ms);
        }
    }
    return OPB_OK;
}

enum opb_status
opb_config_read_open(const struct opb_config_reading *reading,
                     const struct opb_config_key *key, const json_t *value)
{
    size_t index;
    json_t *each;
    bool is_good = json_is_array(value);

    json_array_foreach(value, index, each)
    {
        const char *name = json_string_value(each);

        if (name != NULL && strcmp(name, group_names[GROUP_HTTP_FILTER]) == 0) {
            reading->config->fail_open[OPB_CALL_HTTP_FILTER_INDEX] = true;
        }
        else if (name != NULL && strcmp(name, group_names[GROUP_RECEIVED]) == 0) {
            reading->config->fail_open[OPB_CALL_RECEIVED_INSTANCE_INDEX] = true;
        }
        else if (name != NULL && strcmp(name, group_names[GROUP_CSTORE_FILTER]) == 0) {
            reading->config->fail_open[OPB_CALL_CSTORE_FILTER_INDEX] = true;
        }
        else {
            is_good = false;
        }
    }
    return is_good ? OPB_OK
                   : opb_config_refuse(
                         reading, key, value,
                         "an array of \"HttpFilter\", \"ReceivedInstance\" and "
                         "\"CStoreFilter\": other callbacks have nothing to let in");
}

void
opb_config_set_timeouts(struct opb_config *config)
{
    for (int i = 0; i < OPB_CALL_COUNT; i++) {
        config->call_timeout_ms[i] = calls[i].timeout_ms;
    }
}
