/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/shake.c - delays threads at random, where they meet others
 *
 * A library for LD_PRELOAD, not part of a test: before a lock is taken and before something
 * is sent or awaited, a thread may sleep for some milliseconds; one thread in three does so
 * often. What two threads do at almost the same time happens in either order, then, which
 * on a quiet machine it does once in a thousand runs. For tests whose waits have far longer
 * limits (plugin_lifecycle.cmake). Child processes have it, too.
 */
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OFTEN      8u    /* times as often as other threads */
#define OUT_OF     1000u /* chances */
#define MAX_CHANCE 16u
#define MAX_US     8000u

static __thread uint64_t random_state; /* 0: this thread is new */
static __thread uint32_t chance;

static uint32_t
next_random(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16) % below;
}

static void
shake(void)
{
    if (random_state == 0) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now); /* exists */
        random_state = ((uint64_t)now.tv_nsec << 20) ^ (uintptr_t)&now ^ (uint64_t)getpid();
        random_state |= 1;
        chance = 1 + next_random(MAX_CHANCE);
        chance *= next_random(3) == 0 ? OFTEN : 1;
    }
    if (next_random(OUT_OF) < chance) {
        const struct timespec pause = {.tv_nsec = (long)next_random(MAX_US) * 1000};

        (void)nanosleep(&pause, NULL); /* a signal may cut it short */
    }
}

/* The next function of this name, as POSIX wants it to be asked for. */
#define FIND_NEXT(name)                                                                    \
    static __typeof__(&(name)) next;                                                       \
                                                                                           \
    if (next == NULL) {                                                                    \
        void *found = dlsym(RTLD_NEXT, #name);                                             \
                                                                                           \
        memcpy(&next, &found, sizeof(next));                                               \
    }                                                                                      \
    shake()

int
pthread_mutex_lock(pthread_mutex_t *mutex)
{
    FIND_NEXT(pthread_mutex_lock);
    return next(mutex);
}

int
poll(struct pollfd *items, nfds_t count, int timeout_ms)
{
    FIND_NEXT(poll);
    return next(items, count, timeout_ms);
}

int
epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms)
{
    FIND_NEXT(epoll_wait);
    return next(fd, events, count, timeout_ms);
}

ssize_t
send(int fd, const void *bytes, size_t count, int flags)
{
    FIND_NEXT(send);
    return next(fd, bytes, count, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
    FIND_NEXT(sendmsg);
    return next(fd, message, flags);
}

ssize_t
recv(int fd, void *bytes, size_t count, int flags)
{
    FIND_NEXT(recv);
    return next(fd, bytes, count, flags);
}

ssize_t
recvmsg(int fd, struct msghdr *message, int flags)
{
    FIND_NEXT(recvmsg);
    return next(fd, message, flags);
}
