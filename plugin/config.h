/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/config.h - the configuration keys of the bridge
 *
 * Here:      reading and checking "PythonScript", "PythonVerbose" and the "Python" section
 *            of Orthanc's configuration, refusing what is wrong by key, value and what is
 *            allowed.
 * Elsewhere: acting on it, looking at the scripts (scripts.h). docs/configuration.md has
 *            the keys.
 */
#ifndef OPB_CONFIG_H
#define OPB_CONFIG_H

#include "protocol/status.h"
#include "protocol/words.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct opb_config {
    char *script;              /* as configured; NULL: scripting is disabled */
    char **script_list;        /* of an array, in place of script, which is ""; else NULL */
    uint32_t script_count;     /* of them */
    const char *script_key;    /* static: which option it is */
    char *script_directory;    /* absolute, if script is one; scripts.c finds it, or NULL */
    char *script_path;         /* what logs call it; scripts.c gives it */
    bool verbose;              /* PythonVerbose or Python.Verbose */
    bool display_memory_usage; /* Python.DisplayMemoryUsage */
    bool allow_threads;        /* Python.AllowThreads: read and checked, has no effect */
    char *worker;              /* Python.Worker: the daemon's executable, or NULL */
    char *runtime_directory; /* Python.RuntimeDirectory: parent of the private directory, or
                                NULL */
    char *pool;              /* Python.Pool: socket of a shared pool, or NULL (managed) */
    char *node_socket;       /* Python.NodeSocket: where hosts connect to, or NULL */
    char *node_name;         /* Python.NodeName: in the pool's logs, or NULL */
    char *pool_user;         /* Python.PoolUser: whose a shared pool may be, or NULL */
    bool late_routes;        /* Python.LateRoutes */
    bool shared_memory;      /* Python.SharedMemory */
    uint32_t queue_timeout_ms; /* Python.QueueTimeout (seconds, 10) */
    uint32_t start_timeout_ms; /* Python.StartTimeout (seconds, 60): the worker itself, not
                                  the script */
    uint32_t call_timeout_ms[OPB_CALL_COUNT]; /* Python.CallTimeout; 0: none */
    bool fail_open[OPB_CALL_COUNT];           /* Python.FailOpen */
    bool strict;                              /* Python.Strict */
    uint32_t max_restarts;                    /* Python.MaxRestarts (10); 0: no limit */
    uint32_t restart_window_ms;               /* Python.RestartWindow (seconds, 60) */
    char *admin_path; /* Python.AdminPath ("/python-bridge"); "": no routes of our own */
    uint32_t reload_timeout_ms;  /* Python.ReloadTimeout (seconds, 60): importing the script
                                    for the next generation */
    uint32_t drain_timeout_ms;   /* Python.DrainTimeout (seconds, 30): what runs in the
                                    generation before */
    uint32_t workers;            /* Python.Workers (1): hosts of a generation */
    uint32_t max_calls;          /* Python.MaxCalls: of one host; 0: no limit */
    uint32_t max_memory_mb;      /* Python.MaxMemory (MiB): likewise */
    uint32_t max_events;         /* Python.MaxEvents (100000): that wait at a time */
    bool reload_replaces;        /* Python.Reload is "replace", not "beside" */
    bool reload_on_change;       /* Python.ReloadOnChange */
    uint32_t stopped_timeout_ms; /* Python.StoppedTimeout (seconds, 45): the events until
                                    ORTHANC_STOPPED */
    char *virtual_env;           /* Python.VirtualEnv: absolute path, or NULL */
    char **preload;              /* Python.Preload: names of modules */
    uint32_t preload_count;
    uint32_t slow_call_ms; /* Python.SlowCall (seconds, 0: none): longer ones are logged */
    uint32_t dicom_port;   /* Orthanc's own DicomPort (4242) */
    uint32_t
        stop_timeout_ms; /* Python.StopTimeout (seconds, 30): joining threads, atexit */
};

/* Parses Orthanc's configuration (JSON text): keys, types, ranges. Gives *out, whose
 * script_path is NULL so far. On failure message holds one sentence for the log, and
 * OPB_REFUSED is returned (or OPB_NO_MEMORY). */
OPB_MUST_CHECK enum opb_status opb_config_parse(struct opb_config **out, const char *json,
                                                char *message, size_t capacity);
void opb_config_free(struct opb_config *config); /* NULL is fine */

#endif
