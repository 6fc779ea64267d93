/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/main.c - orthanc-python-host: the arguments, and the order of the start
 *
 * Run by the pool's supervisor, never by hand: everything but the control socket comes
 * over lanes. stdin, stdout and stderr are Orthanc's own.
 */
#include "host.h"
#include "virtual_env.h"
#include "zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXIT_USAGE 2

static pid_t host_pid;

void
opb_host_say(const char *format, ...)
{
    char text[OPB_HOST_ERROR_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments); /* cut if it is longer */
    va_end(arguments);
    (void)dprintf(STDERR_FILENO, "orthanc-python-host: %s\n",
                  text); /* nowhere else to tell */
}

void
opb_host_check_child(void)
{
    if (getpid() == host_pid) {
        return;
    }
    opb_host_say("a forked child of the script (process %ld) left the function in which it "
                 "was forked, and ends here; end such children with os._exit()",
                 (long)getpid());
    (void)fflush(NULL);
    _exit(EXIT_SUCCESS);
}

static void
print_usage(FILE *out)
{
    (void)fputs(
        "Usage: orthanc-python-host --control-fd N [--venv DIRECTORY]\n"
        "       orthanc-python-host --zygote-fd N [--venv DIRECTORY] [--verbose]\n"
        "                           [--preload MODULE]...\n"
        "Runs the script of one Orthanc server in a Python interpreter. Started by\n"
        "orthanc-python-worker, which gives it a socket as descriptor N. As a zygote it\n"
        "runs no script, but forks processes that do.\n"
        "  --version  print the version and end\n"
        "  --help     print this and end\n",
        out);
}

/* The descriptor, or -1 if the text is not one of a SOCK_SEQPACKET socket. */
static int
parse_control_fd(const char *text)
{
    char *end = NULL;
    long value;
    int type = 0;
    socklen_t size = sizeof(type);

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 0 || value > 65535) {
        return -1;
    }
    if (getsockopt((int)value, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        type != SOCK_SEQPACKET) {
        return -1;
    }
    return (int)value;
}

/* Returns the exit code for arguments that end the program, or -1. */
static int
parse_arguments(int argc, char **argv, int *control_fd, struct opb_zygote_options *zygote)
{
    static const struct option options[] = {{"control-fd", required_argument, NULL, 'c'},
                                            {"zygote-fd", required_argument, NULL, 'z'},
                                            {"verbose", no_argument, NULL, 'V'},
                                            {"preload", required_argument, NULL, 'p'},
                                            {"venv", required_argument, NULL, 'e'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            *control_fd = parse_control_fd(optarg);
            if (*control_fd < 0) {
                opb_host_say("--control-fd %s: this is no SOCK_SEQPACKET socket", optarg);
                return EXIT_USAGE;
            }
            break;
        case 'z':
            zygote->fd = parse_control_fd(optarg);
            if (zygote->fd < 0) {
                opb_host_say("--zygote-fd %s: this is no SOCK_SEQPACKET socket", optarg);
                return EXIT_USAGE;
            }
            break;
        case 'V':
            zygote->verbose = true;
            break;
        case 'p':
            zygote->modules[zygote->module_count++] = optarg;
            break;
        case 'e':
            if (opb_virtual_env_set(optarg) != OPB_OK) {
                opb_host_say("--venv %s: out of memory", optarg);
                return EXIT_FAILURE;
            }
            break;
        case 'v':
            (void)printf("orthanc-python-host %s (protocol %d, Python %s)\n",
                         OPB_BUILD_VERSION, OPB_PROTOCOL_VERSION, PY_VERSION);
            return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        case 'h':
            print_usage(stdout);
            return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        default:
            print_usage(stderr);
            return EXIT_USAGE;
        }
    }
    if (optind != argc || (*control_fd < 0) == (zygote->fd < 0)) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    return -1;
}

/* The supervisor's death is the death of this process. If it has died before this, the
 * socket to it is at its end. */
static bool
prepare(int fd)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
           fcntl(fd, F_SETFL, 0) == 0;
}

/* Runs the zygote until this process is a host. */
static void
fork_hosts(int argc, char **argv, struct opb_zygote_options *options)
{
    char *copies;

    /* The arguments lie one after the other, and hosts write their own in their place. */
    options->arguments = argv[0];
    options->argument_bytes =
        (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0]);
    copies = malloc(options->argument_bytes);
    if (copies == NULL) {
        _exit(EXIT_FAILURE);
    }
    memcpy(copies, argv[0], options->argument_bytes);
    for (unsigned i = 0; i < options->module_count; i++) {
        options->modules[i] = copies + (options->modules[i] - argv[0]);
    }
    opb_zygote_run(options);
    free(copies);
}

int
main(int argc, char **argv)
{
    struct opb_zygote_options zygote = {.fd = -1};
    int control_fd = -1;
    int main_fd;
    int code;

    opb_allocator_set_up();
    zygote.modules = calloc((size_t)argc + 1, sizeof(*zygote.modules));
    if (zygote.modules == NULL) {
        return EXIT_FAILURE;
    }
    code = parse_arguments(argc, argv, &control_fd, &zygote);
    if (code < 0 && !prepare(zygote.fd >= 0 ? zygote.fd : control_fd)) {
        opb_host_say("cannot prepare the process: %s", strerror(errno));
        code = EXIT_FAILURE;
    }
    if (code >= 0) {
        free(zygote.modules);
        return code;
    }
    opb_signals_begin();
    if (zygote.fd >= 0) {
        fork_hosts(argc, argv, &zygote);
        control_fd = zygote.fd; /* the host's now */
    }
    free(zygote.modules);
    host_pid = getpid();
    if (opb_forking_begin(control_fd) != OPB_OK ||
        opb_control_start(&control_fd) != OPB_OK) {
        opb_host_say("cannot start: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    main_fd = opb_control_main_lane();
    code = opb_main_lane_run(&main_fd);
    /* Not exit(): destructors of libraries would run beside the threads of lanes. */
    (void)fflush(NULL);
    _exit(code);
}
