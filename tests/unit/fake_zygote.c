/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_zygote.c - see fake_zygote.h */
#include "tests/unit/fake_zygote.h"

#include "protocol/sockets.h"
#include "worker/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool
is_mode(const char *mode)
{
    const char *wanted = getenv("FAKE_ZYGOTE");

    return wanted != NULL && strcmp(wanted, mode) == 0;
}

static void
tell(int fd, enum opb_zygote_word word, uint32_t id, int number, const char *text)
{
    struct opb_zygote_note note;

    memset(&note, 0, sizeof(note));
    note.word = (uint32_t)word;
    note.id = id;
    note.number = number;
    (void)snprintf(note.text, sizeof(note.text), "%s", text);
    if (opb_socket_pass(fd, &note, sizeof(note), -1) != OPB_OK) {
        _exit(1);
    }
}

/* True in the host. Takes control. */
static bool
fork_host(int fd, uint32_t id, int control)
{
    pid_t middle = fork();

    if (middle == 0) {
        pid_t host = fork();

        if (host != 0) {
            tell(fd, OPB_ZYGOTE_BORN, id, (int)host, "");
            _exit(0);
        }
        (void)setsid();
        (void)dup3(control, fd, O_CLOEXEC);
        (void)close(control);
        return true;
    }
    (void)close(control);
    (void)waitpid(middle, NULL, 0);
    if (is_mode("born")) {
        _exit(1);
    }
    tell(fd, OPB_ZYGOTE_STARTED, id, 0, "");
    return false;
}

static pid_t
grandparent(void)
{
    char path[64];
    int parent = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)getppid());
    file = fopen(path, "re");
    if (file == NULL || fscanf(file, "%*d (%*[^)]) %*c %d", &parent) != 1) {
        abort();
    }
    (void)fclose(file);
    return parent;
}

/* True in a host. */
static bool
serve(int fd, uint32_t id, int control)
{
    if (is_mode("good") || is_mode("born")) {
        return fork_host(fd, id, control);
    }
    if (is_mode("dies")) {
        _exit(1);
    }
    if (is_mode("garbage")) {
        tell(fd, (enum opb_zygote_word)99, id, 0, "nonsense");
    }
    if (is_mode("refuses")) {
        tell(fd, OPB_ZYGOTE_NOT_STARTED, id, EAGAIN, "");
    }
    if (is_mode("stranger")) {
        tell(fd, OPB_ZYGOTE_BORN, id, (int)grandparent(), "");
        tell(fd, OPB_ZYGOTE_STARTED, id, 0, "");
    }
    (void)close(control);
    return false;
}

void
fake_zygote_run(int fd)
{
    if (is_mode("fails") || is_mode("quits")) {
        tell(fd, OPB_ZYGOTE_IMPORTING, 0, 0, "bad");
    }
    if (is_mode("quits")) {
        _exit(1);
    }
    tell(fd, is_mode("fails") ? OPB_ZYGOTE_FAILED : OPB_ZYGOTE_READY, 0, 0,
         "the module \"bad\" cannot be imported");
    (void)fcntl(fd, F_SETFL, 0);
    for (;;) {
        struct opb_zygote_note note;
        size_t bytes = 0;
        int control = -1;

        if (opb_socket_take(fd, &note, sizeof(note), &bytes, &control) != OPB_OK) {
            _exit(0);
        }
        if (serve(fd, note.id, control)) {
            return;
        }
    }
}
