/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/main.c - orthanc-python-worker: descriptors, and the order of the start
 *
 * Here:      finding the host program, shedding what was inherited.
 * Elsewhere: the command line (options.c), all work (pool.c).
 */
#include "worker/supervisor/options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_FD 3 /* the lifeline of a managed pool; the socket that systemd has made */

/* The supervisor holds nothing of Orthanc's but stdout, stderr and the lifeline: an
 * inherited listening socket would keep its port busy after Orthanc's death. */
static bool
shed_descriptors(struct opb_pool_options *options)
{
    struct stat info;
    int null_fd = open("/dev/null", O_RDWR);

    while (null_fd >= 0 && null_fd <= STDERR_FILENO) {
        null_fd = dup(null_fd); /* one of 0 to 2 was closed: now it is not */
    }
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0) {
        return false;
    }
    if (options->managed_fd < 0) {
        closefrom(options->listen_fd == FIRST_FD ? FIRST_FD + 1 : FIRST_FD);
        return true;
    }
    if (options->managed_fd <= STDERR_FILENO || fstat(options->managed_fd, &info) != 0 ||
        !S_ISSOCK(info.st_mode)) {
        errno = EBADF;
        options->managed_fd = -1;
        return false;
    }
    if (options->managed_fd != FIRST_FD) {
        if (dup2(options->managed_fd, FIRST_FD) < 0) {
            return false;
        }
        options->managed_fd = FIRST_FD;
    }
    closefrom(FIRST_FD + 1);
    return fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) == 0;
}

/* Gives the program that runs scripts, or NULL. free() it. */
static char *
find_host_program(void)
{
    /* Beside us; in a build tree; in an install tree that was moved; as installed. */
    static const char *const places[] = {
        "%s/orthanc-python-host", "%s/../host/orthanc-python-host",
        "%s/../libexec/orthanc-python-bridge/orthanc-python-host", NULL};
    static const char installed[] = OPB_HOST_DIR "/orthanc-python-host";
    char self[PATH_MAX];
    char candidate[2 * PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (length > 0) {
        self[length] = '\0';
        slash = strrchr(self, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
        for (size_t i = 0; places[i] != NULL; i++) {
            char *found;

            (void)snprintf(candidate, sizeof(candidate), "%s%s", self,
                           places[i] + 2); /* fits */
            found = realpath(candidate, NULL);
            if (found != NULL && access(found, X_OK) == 0) {
                return found;
            }
            free(found);
        }
    }
    return access(installed, X_OK) == 0 ? strdup(installed) : NULL;
}

/* Gives the socket that systemd has made, if there is one. Returns -1 to go on, else an
 * exit code. */
static int
take_socket(struct opb_pool_options *options)
{
    char *path = options->activated_path;
    char message[512];

    if (options->managed_fd < 0 &&
        opb_activation_take(&options->listen_fd, options->config.socket, path,
                            sizeof(options->activated_path), message,
                            sizeof(message)) != OPB_OK) {
        return opb_options_complain(options, message, "");
    }
    options->socket_path = options->listen_fd >= 0 ? path : options->config.socket;
    if (options->socket_path == NULL && !options->is_check) { /* systemd may make it */
        return opb_options_complain(options,
                                    "no socket to listen on: name one with --socket PATH, "
                                    "or with \"Socket\" in the "
                                    "file of --config FILE; see --help",
                                    "");
    }
    return -1;
}

/* What can be known without a pool. */
static int
check(const struct opb_pool_options *options)
{
    struct opb_access access;
    char message[512];
    int code = EXIT_SUCCESS;

    if (opb_access_init(&access, &options->config, message, sizeof(message)) != OPB_OK ||
        opb_scripts_look(&options->config, message, sizeof(message)) != OPB_OK) {
        code = opb_options_complain(options, message, "");
    }
    opb_access_fini(&access);
    return code;
}

static int
run(struct opb_pool_options *options)
{
    char *found = NULL;
    int code = take_socket(options);

    if (code >= 0) {
        return code;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* always works; hosts get the standard action back */
    if (!shed_descriptors(options)) {
        return opb_options_complain(options,
                                    "cannot set up descriptors: ", strerror(errno));
    }
    options->host_program = options->config.host_program;
    if (options->host_program == NULL) {
        found = find_host_program();
        options->host_program = found;
    }
    if (options->host_program == NULL || access(options->host_program, X_OK) != 0) {
        code = opb_options_complain(
            options, "cannot run the host program: ",
            options->host_program != NULL
                ? options->host_program
                : "orthanc-python-host is neither beside this program nor in " OPB_HOST_DIR
                  "; install it, or name it with --host-program or \"HostProgram\"");
    }
    else if (options->is_check) {
        code = check(options);
    }
    else {
        code = opb_pool_run(options);
    }
    free(found);
    return code;
}

int
main(int argc, char **argv)
{
    struct opb_pool_options options = {.managed_fd = -1,
                                       .listen_fd = -1,
                                       .handshake_timeout_ms = OPB_HANDSHAKE_TIMEOUT_MS};
    char message[256];
    int code;

    if (opb_pool_config_init(&options.config, message, sizeof(message)) == OPB_OK) {
        code = opb_options_parse(argc, argv, &options);
    }
    else {
        code = opb_options_complain(&options, message, "");
    }
    if (code < 0) {
        code = run(&options);
    }
    opb_pool_config_fini(&options.config);
    return code;
}
