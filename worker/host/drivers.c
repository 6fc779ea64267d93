/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/drivers.c - objects of the script that the node names by a number
 *
 * A process has one interpreter and one node: the table is as global as they are. The list
 * is short (running C-MOVEs, jobs in the history), and changes under the GIL only; nothing
 * here runs Python code while a link of it is open.
 */
#include "drivers.h"

#include <stdlib.h>

struct driver {
    struct driver *next;
    uint64_t number;
    PyObject *object; /* owned */
};

static struct driver *first;
static uint64_t last_number;

uint64_t
opb_driver_add(PyObject *object)
{
    struct driver *driver = malloc(sizeof(*driver));

    if (driver == NULL) {
        (void)PyErr_NoMemory();
        return 0;
    }
    *driver = (struct driver){
        .next = first, .number = ++last_number, .object = Py_NewRef(object)};
    first = driver;
    return driver->number;
}

PyObject *
opb_driver_get(uint64_t number)
{
    const struct driver *driver = first;

    while (driver != NULL && driver->number != number) {
        driver = driver->next;
    }
    return driver == NULL ? NULL : Py_NewRef(driver->object);
}

PyObject *
opb_driver_remove(uint64_t number)
{
    struct driver **link = &first;
    struct driver *driver;
    PyObject *object;

    while (*link != NULL && (*link)->number != number) {
        link = &(*link)->next;
    }
    driver = *link;
    if (driver == NULL) {
        return NULL;
    }
    *link = driver->next;
    object = driver->object;
    free(driver);
    return object;
}

void
opb_drivers_clear(void)
{
    while (first != NULL) {
        PyObject *object = opb_driver_remove(first->number);

        Py_XDECREF(object); /* may run Python code */
    }
}
