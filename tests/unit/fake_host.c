/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_host.c - a host program without Python, for the supervisor's tests
 *
 * Started as the supervisor starts the real one. Takes lanes, welcomes them, and
 * does on each what fake_host.h says. FAKE_HOST_EXIT=7 in the environment makes it
 * end with that code at once.
 */
#include "tests/unit/fake_host.h"
#include "tests/unit/fake_zygote.h"

#include "protocol/handshake.h"
#include "protocol/sockets.h"
#include "protocol/words.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t
start_child(int method)
{
    int ends[2];
    pid_t pid;
    pid_t child = 0;

    if (pipe(ends) != 0) {
        abort();
    }
    pid = fork();
    if (pid == 0) {
        (void)close(ends[0]);
        if (method == FAKE_DAEMON && fork() != 0) {
            _exit(0);
        }
        if (method != FAKE_CHILD) {
            (void)setsid();
        }
        child = getpid();
        (void)!write(ends[1], &child, sizeof(child));
        (void)close(ends[1]);
        for (;;) {
            (void)pause();
        }
    }
    (void)close(ends[1]);
    if (read(ends[0], &child, sizeof(child)) != (ssize_t)sizeof(child)) {
        abort();
    }
    (void)close(ends[0]);
    if (method == FAKE_DAEMON) {
        (void)waitpid(pid, NULL, 0);
    }
    return child;
}

static void
list_descriptors(char *out, size_t capacity)
{
    DIR *directory = opendir("/proc/self/fd");
    const struct dirent *entry;
    size_t length = 0;

    out[0] = '\0';
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        long fd = strtol(entry->d_name, NULL, 10);

        if (fd > 2 && fd < 1000 && fd != dirfd(directory) && length + 16 < capacity) {
            length += (size_t)snprintf(out + length, capacity - length, "%s%ld",
                                       length == 0 ? "" : " ", fd);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
}

static void
list_signals(char *out, size_t capacity)
{
    /* Of this thread: the main one blocks all signals while it creates others. */
    FILE *file = fopen("/proc/thread-self/status", "re");
    char line[256];
    size_t length = 0;

    out[0] = '\0';
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if ((strncmp(line, "SigBlk:", 7) == 0 || strncmp(line, "SigIgn:", 7) == 0) &&
            length + sizeof(line) < capacity) {
            line[strcspn(line, "\n")] = '\0';
            length += (size_t)snprintf(out + length, capacity - length, "%s%s",
                                       length == 0 ? "" : " ", line + 8);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static void
do_as_asked(uint32_t method, const char *text, char *answer, size_t capacity)
{
    switch (method) {
    case FAKE_ECHO:
        (void)snprintf(answer, capacity, "%s", text);
        break;
    case FAKE_EXIT:
        _exit(atoi(text));
    case FAKE_CRASH:
        (void)signal(SIGSEGV, SIG_DFL);
        (void)raise(SIGSEGV);
        break;
    case FAKE_CHILD:
    case FAKE_SETSID_CHILD:
    case FAKE_DAEMON:
        (void)snprintf(answer, capacity, "%d", (int)start_child((int)method));
        break;
    case FAKE_IGNORE_TERM:
        (void)signal(SIGTERM, SIG_IGN);
        break;
    case FAKE_ENV: {
        const char *value = getenv(text);

        (void)snprintf(answer, capacity, "%s", value != NULL ? value : "");
        break;
    }
    case FAKE_FDS:
        list_descriptors(answer, capacity);
        break;
    case FAKE_SIGNALS:
        list_signals(answer, capacity);
        break;
    default:
        abort();
    }
}

/* One lane, until its node closes it. */
static void *
serve_lane(void *argument)
{
    int fd = *(int *)argument;
    struct opb_message *message = opb_message_new();
    struct opb_lane *lane = NULL;
    struct opb_frame *frame = NULL;

    free(argument);
    if (message == NULL || opb_lane_open(&lane, &fd, &opb_segment_malloc) != OPB_OK ||
        opb_welcome_send(lane, opb_deadline_ms(5000)) != OPB_OK) {
        abort();
    }
    opb_lane_trust(lane);
    while (opb_lane_receive(lane, &frame, OPB_FOREVER) == OPB_OK) {
        struct opb_reader reader;
        char answer[4096] = "";

        opb_frame_params(frame, &reader);
        do_as_asked(opb_frame_method(frame), opb_read_cstr(&reader, false), answer,
                    sizeof(answer));
        opb_message_begin_response(message, opb_frame_msgid(frame));
        opb_pack_cstr(message, answer);
        opb_frame_free(frame);
        if (opb_lane_send(lane, message, opb_deadline_ms(5000)) != OPB_OK) {
            break;
        }
    }
    opb_lane_close(lane);
    opb_message_free(message);
    return NULL;
}

static void
take_lanes(int control_fd)
{
    for (;;) {
        uint8_t kind = 0;
        size_t bytes = 0;
        pthread_t thread;
        int *fd;
        enum opb_status status;

        fd = malloc(sizeof(*fd));
        if (fd == NULL) {
            abort();
        }
        status = opb_socket_take(control_fd, &kind, 1, &bytes, fd);
        if (status == OPB_GONE) {
            free(fd);
            return;
        }
        if (status == OPB_OK && *fd >= 0 && kind == OPB_HOST_LOOK) {
            static const char look[] = "a look\n";

            if (getenv("FAKE_LOOK") != NULL) { /* else the GIL is not to be had */
                (void)!write(*fd, look, sizeof(look));
            }
            (void)close(*fd);
            free(fd);
            continue;
        }
        if (status == OPB_OK && *fd >= 0 && kind == OPB_HOST_STACKS) {
            static const char stacks[] = "a stack\n  in two lines\n";

            (void)!write(*fd, stacks, sizeof(stacks)); /* with the NUL at its end */
            (void)close(*fd);
            free(fd);
            continue;
        }
        if (status != OPB_OK || *fd < 0 || bytes != 1 ||
            pthread_create(&thread, NULL, serve_lane, fd) != 0) {
            abort();
        }
        (void)pthread_detach(thread);
    }
}

int
main(int argc, char **argv)
{
    static const struct option longs[] = {{"control-fd", required_argument, NULL, 'c'},
                                          {"zygote-fd", required_argument, NULL, 'z'},
                                          {"preload", required_argument, NULL, 'p'},
                                          {NULL, 0, NULL, 0}};
    const char *code = getenv("FAKE_HOST_EXIT");
    int control_fd = -1;
    bool is_zygote = false;

    for (int option = 0; option != -1;) {
        option = getopt_long(argc, argv, "", longs, NULL);
        if (option == 'c' || option == 'z') {
            control_fd = atoi(optarg);
            is_zygote = option == 'z';
        }
    }
    if (code != NULL) {
        return atoi(code);
    }
    if (control_fd < 0) {
        return 2;
    }
    if (is_zygote) {
        fake_zygote_run(control_fd);
    }
    take_lanes(control_fd);
    if (getpgrp() == getpid()) {
        (void)kill(0, SIGKILL); /* the pool is gone: so is all that we have started */
    }
    return 1;
}
