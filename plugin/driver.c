/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/driver.c - an object of the script that stands behind a C pointer of Orthanc
 *
 * Orthanc may keep a driver for hours (a job in its history), and even beyond the plugin's
 * Finalize. So all drivers are listed, and let go of their session when it ends. The lock
 * is held for nothing but the list: to let go of a session may free objects in Orthanc.
 */
#include "driver.h"

#include <stdlib.h>

struct opb_driver {
    struct opb_driver *next;
    struct opb_driver **link;    /* what points to this one; NULL: not listed */
    struct opb_session *session; /* a reference, or NULL: its host has ended */
    uint64_t number;
    bool has_object;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct opb_driver *first; /* of those that have a session */

struct opb_driver *
opb_driver_new(void)
{
    return calloc(1, sizeof(struct opb_driver));
}

/* With the lock held. Gives the reference that the driver held, or NULL. */
static struct opb_session *
detach(struct opb_driver *driver)
{
    struct opb_session *session = driver->session;

    driver->session = NULL;
    if (driver->link != NULL) {
        *driver->link = driver->next;
        if (driver->next != NULL) {
            driver->next->link = driver->link;
        }
        driver->link = NULL;
        driver->next = NULL;
    }
    return session;
}

void
opb_driver_read(struct opb_driver *driver, struct opb_session *session,
                struct opb_reader *reader)
{
    driver->number = opb_read_uint(reader, UINT64_MAX);
    if (reader->status != OPB_OK || driver->has_object) {
        return;
    }
    driver->has_object = true;
    (void)opb_session_ref(session);
    pthread_mutex_lock(&lock);
    driver->session = session;
    driver->next = first;
    driver->link = &first;
    if (first != NULL) {
        first->link = &driver->next;
    }
    first = driver;
    pthread_mutex_unlock(&lock);
    if (opb_session_is_dead(session)) { /* its end may have missed this driver */
        opb_drivers_session_ended(session);
    }
}

bool
opb_driver_has_object(const struct opb_driver *driver)
{
    return driver->has_object;
}

void
opb_driver_pack(const struct opb_driver *driver, struct opb_message *message)
{
    opb_pack_uint(message, driver->number);
}

enum opb_outcome
opb_driver_call(struct opb_driver *driver, struct opb_node *node, enum opb_call_index kind,
                const struct opb_call_io *io, const char *what, uint64_t deadline_ms)
{
    struct opb_session *session = NULL;
    enum opb_outcome outcome;

    pthread_mutex_lock(&lock);
    if (driver->session != NULL && opb_session_node(driver->session) == node) {
        session = opb_session_ref(driver->session);
    }
    pthread_mutex_unlock(&lock);
    outcome = opb_call_run_in(session, kind, io, what, deadline_ms);
    opb_session_unref(session);
    return outcome;
}

struct end {
    const struct opb_driver *driver;
    enum opb_call_index kind;
};

static void
pack_end(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct end *end = context;

    (void)session;
    opb_message_begin_request(message, (uint32_t)end->kind, 1);
    opb_driver_pack(end->driver, message);
}

void
opb_driver_end(struct opb_driver **driver_in, struct opb_node *node,
               enum opb_call_index kind, const char *what)
{
    struct opb_driver *driver = *driver_in;
    struct end end = {.driver = driver, .kind = kind};
    struct opb_call_io io = {.pack = pack_end, .context = &end};
    struct opb_session *session;
    bool has_host;

    if (driver == NULL) {
        return;
    }
    *driver_in = NULL;
    pthread_mutex_lock(&lock);
    has_host = driver->session != NULL;
    pthread_mutex_unlock(&lock);
    if (has_host && node != NULL) { /* a host that has ended has freed all it had */
        (void)opb_driver_call(driver, node, kind, &io, what, OPB_FOREVER);
    }
    pthread_mutex_lock(&lock);
    session = detach(driver);
    pthread_mutex_unlock(&lock);
    opb_session_unref(session);
    free(driver);
}

bool
opb_drivers_has(const struct opb_session *session)
{
    const struct opb_driver *driver;

    pthread_mutex_lock(&lock);
    for (driver = first; driver != NULL && driver->session != session;
         driver = driver->next) {
    }
    pthread_mutex_unlock(&lock);
    return driver != NULL;
}

void
opb_drivers_session_ended(const struct opb_session *ended)
{
    struct opb_session *session;

    do {
        struct opb_driver *driver;

        session = NULL;
        pthread_mutex_lock(&lock);
        for (driver = first; driver != NULL && driver->session != ended;
             driver = driver->next) {
        }
        if (driver != NULL) {
            session = detach(driver);
        }
        pthread_mutex_unlock(&lock);
        opb_session_unref(session);
    } while (session != NULL);
}
