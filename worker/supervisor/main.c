/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/main.c - orthanc-python-worker: command line and descriptors
 *
 * Here:      options, finding the host program, shedding what was inherited.
 * Elsewhere: all work (pool.c).
 */
#include "worker/supervisor/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIFELINE_FD 3

static const char usage[] =
    "Usage: orthanc-python-worker --socket PATH [options]\n"
    "Runs the Python scripts of Orthanc servers in processes of their own.\n"
    "\n"
    "  --socket PATH        Unix-domain socket to listen on\n"
    "  --host-program PATH  program that runs a script (default: orthanc-python-host,\n"
    "                       beside this program or where it was installed)\n"
    "  --managed-fd N       socket to the Orthanc that started this program: it ends\n"
    "                       with it (used by the plugin)\n"
    "  --version            show version and protocol version\n"
    "  --help               show this text\n";

enum option_code {
    OPTION_SOCKET = 1,
    OPTION_MANAGED_FD,
    OPTION_HOST_PROGRAM,
    OPTION_HANDSHAKE_TIMEOUT_MS,
    OPTION_VERSION,
    OPTION_HELP
};

/* Says what is wrong with the call to who made it. Returns the exit code. */
static int
complain(const struct opb_pool_options *options, const char *text, const char *detail)
{
    char line[1024];
    int length = snprintf(line, sizeof(line), "ERROR %s%s\n", text, detail);

    if (options->managed_fd >= 0 && length > 0 && (size_t)length < sizeof(line)) {
        (void)!write(options->managed_fd, line, (size_t)length); /* stderr has it as well */
    }
    (void)fprintf(stderr, "orthanc-python-worker: %s%s\n", text, detail);
    return 2;
}

/* False if text is not a number from low to high. */
static bool
parse_number(const char *text, long low, long high, long *out)
{
    char *end = NULL;

    errno = 0;
    *out = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *out >= low && *out <= high;
}

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
        closefrom(LIFELINE_FD);
        return true;
    }
    if (options->managed_fd <= STDERR_FILENO || fstat(options->managed_fd, &info) != 0 ||
        !S_ISSOCK(info.st_mode)) {
        errno = EBADF;
        options->managed_fd = -1;
        return false;
    }
    if (options->managed_fd != LIFELINE_FD) {
        if (dup2(options->managed_fd, LIFELINE_FD) < 0) {
            return false;
        }
        options->managed_fd = LIFELINE_FD;
    }
    closefrom(LIFELINE_FD + 1);
    return fcntl(LIFELINE_FD, F_SETFD, FD_CLOEXEC) == 0;
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

/* Returns -1 to go on, else an exit code. */
static int
parse_arguments(int argc, char **argv, struct opb_pool_options *options)
{
    static const struct option longs[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"managed-fd", required_argument, NULL, OPTION_MANAGED_FD},
        {"host-program", required_argument, NULL, OPTION_HOST_PROGRAM},
        {"handshake-timeout-ms", required_argument, NULL, OPTION_HANDSHAKE_TIMEOUT_MS},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0}};
    long number = 0;
    int code;

    while ((code = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (code) {
        case OPTION_SOCKET:
            options->socket_path = optarg;
            break;
        case OPTION_HOST_PROGRAM:
            options->host_program = optarg;
            break;
        case OPTION_MANAGED_FD:
            if (!parse_number(optarg, 3, INT_MAX, &number)) {
                return complain(options, "--managed-fd wants a descriptor, not ", optarg);
            }
            options->managed_fd = (int)number;
            break;
        case OPTION_HANDSHAKE_TIMEOUT_MS: /* for tests, which cannot wait that long */
            if (!parse_number(optarg, 1, 3600000, &number)) {
                return complain(options, "--handshake-timeout-ms wants a number, not ",
                                optarg);
            }
            options->handshake_timeout_ms = (uint32_t)number;
            break;
        case OPTION_VERSION:
            (void)printf("orthanc-python-worker %s, protocol version %d\n",
                         OPB_BUILD_VERSION, OPB_PROTOCOL_VERSION);
            return EXIT_SUCCESS;
        case OPTION_HELP:
            (void)fputs(usage, stdout);
            return EXIT_SUCCESS;
        default:
            return complain(options, "unknown option; see --help", "");
        }
    }
    if (optind != argc) {
        return complain(options, "this is no option: ", argv[optind]);
    }
    if (options->socket_path == NULL) {
        return complain(options, "--socket PATH is missing; see --help", "");
    }
    return -1;
}

int
main(int argc, char **argv)
{
    struct opb_pool_options options = {NULL, NULL, -1, OPB_HANDSHAKE_TIMEOUT_MS};
    char *found = NULL;
    int code = parse_arguments(argc, argv, &options);

    if (code >= 0) {
        return code;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* always works; hosts get the standard action back */
    if (!shed_descriptors(&options)) {
        return complain(&options, "cannot set up descriptors: ", strerror(errno));
    }
    if (options.host_program == NULL) {
        found = find_host_program();
        options.host_program = found;
    }
    if (options.host_program == NULL || access(options.host_program, X_OK) != 0) {
        code = complain(
            &options, "cannot run the host program: ",
            options.host_program != NULL
                ? options.host_program
                : "orthanc-python-host is neither beside this program nor in " OPB_HOST_DIR
                  "; install it, or name it with --host-program");
    }
    else {
        code = opb_pool_run(&options);
    }
    free(found);
    return code;
}
