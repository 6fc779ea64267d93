/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/plugin_server.h - the whole plugin in a server of the tests' own
 *
 * Here:      its configuration and its directory, with the real daemon and the host program
 *            that script_host.c is; which processes there are. For test_plugin*.c.
 * Elsewhere: the server's other answers (plugin_support.h).
 */
#ifndef OPB_PLUGIN_SERVER_H
#define OPB_PLUGIN_SERVER_H

#include "plugin_support.h"

#include "plugin/pool.h"

#include <sys/types.h>

#define WAIT_MS 30000u

int32_t OrthancPluginInitialize(OrthancPluginContext *context);
void OrthancPluginFinalize(void);

extern char server_directory[64];       /* of script.py, and of what the daemon makes */
extern char server_configuration[1024]; /* what Orthanc gives the plugin */

/* Before and after each test: the server; the second has three hosts. After it nothing of
 * the bridge may be left in the directory. */
int server_make(void **state);
int server_make_of_three(void **state);
int server_end(void **state);

/* What the script is to do (script_host.c), and more of the section "Python". */
void server_configure(const char *word, const char *more);
/* A file in the directory: format and a, or, with b, a program that runs a for b. */
void server_write(const char *name, mode_t mode, const char *format, const char *a,
                  const char *b);
/* A file in the directory, which a host makes. */
void server_await_file(const char *name);
/* The host that takes calls, other than the one before. */
pid_t server_await_host(pid_t before);
/* Loads the script again; what came of it is in server_last_reload. */
void server_reload(void);
extern struct opb_reload server_last_reload;
/* For a thread: does so until the server stops. */
void *server_run_reloads(void *unused);
/* For opb_wait_until(): whether the process *pid has ended. */
bool server_is_gone(void *pid);
/* The daemon's process id, from its name in /proc: the parent of the host. */
pid_t server_daemon_of(pid_t pid);

/* What a server must get through, from Initialize to Finalize: hosts that die at any moment
 * of a reload, so many times; a daemon that dies before one; an end in the midst of them,
 * which configures by itself. */
void server_kill_hosts_during_reloads(int times);
void server_kill_daemon_before_reload(void);
void server_stop_during_reloads(const char *word, const char *more);

#define SERVER_TEST(function)                                                              \
    cmocka_unit_test_setup_teardown(function, server_make, server_end)
/* The same test with three hosts. */
#define TEST_OF_THREE(function)                                                            \
    {                                                                                      \
#        function "_of_three", function, server_make_of_three, server_end, NULL            \
    }

#endif
