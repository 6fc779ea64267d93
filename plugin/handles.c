/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/handles.c - SDK objects that a host holds, by number
 *
 * A handle is a slot number (low 20 bits) and a nonce (44 bits). The nonce changes with
 * each use of the slot, so that a number of the past never names an object of today.
 * Nothing is called while the lock is held; SDK destructors run after it.
 */
#include "handles.h"

#include "invocation.h"
#include "threads.h"

#include "protocol/sockets.h"

#include <pthread.h>
#include <stdlib.h>

#define SLOT_BITS 20u
#define SLOT_MASK ((UINT64_C(1) << SLOT_BITS) - 1u)
#define MAX_SLOTS (1u << SLOT_BITS)
#define NO_SLOT   UINT32_MAX

enum slot_state {
    SLOT_FREE,
    SLOT_LENT,
    SLOT_OWNED,
    SLOT_ENDING, /* lent, and opb_handle_end() waits for the pin to go */
    SLOT_DOOMED  /* owned and released: freed by the last unpin */
};

struct slot {
    void *object;
    uint64_t handle;
    OrthancPluginContext *context; /* of SLOT_DOOMED */
    enum opb_class class_id;
    enum slot_state state;
    uint32_t next_free;
    uint32_t pins;
    pthread_t pinner; /* while pins > 0 */
    bool is_marked;
};

struct opb_handles {
    pthread_mutex_t lock;
    pthread_cond_t unpinned; /* CLOCK_MONOTONIC */
    struct slot *slots;
    uint32_t slot_count, slot_capacity;
    uint32_t first_free;
    uint32_t waiter_count;
    size_t used_count;
    uint64_t seed, sequence;
};

enum opb_status
opb_handles_new(struct opb_handles **out)
{
    struct opb_handles *handles;
    enum opb_status status;

    *out = NULL;
    handles = calloc(1, sizeof(*handles));
    if (handles == NULL) {
        return OPB_NO_MEMORY;
    }
    status = opb_random_bytes(&handles->seed, sizeof(handles->seed));
    if (status == OPB_OK) {
        status = opb_condition_init(&handles->unpinned);
    }
    if (status != OPB_OK) {
        free(handles);
        return status;
    }
    handles->first_free = NO_SLOT;
    pthread_mutex_init(&handles->lock, NULL);
    *out = handles;
    return OPB_OK;
}

size_t
opb_handles_free(struct opb_handles *handles, OrthancPluginContext *context)
{
    size_t lent_count = 0;

    if (handles == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < handles->slot_count; i++) {
        struct slot *slot = &handles->slots[i];

        if (slot->state == SLOT_OWNED || slot->state == SLOT_DOOMED) {
            (void)opb_sdk_free_object(context, slot->class_id, slot->object);
        }
        else if (slot->state != SLOT_FREE) {
            lent_count++;
        }
    }
    free(handles->slots);
    pthread_cond_destroy(&handles->unpinned);
    pthread_mutex_destroy(&handles->lock);
    free(handles);
    return lent_count;
}

/* A step of splitmix64: well mixed, and secret as long as the seed is. */
static uint64_t
next_nonce(struct opb_handles *handles)
{
    uint64_t z = handles->seed + ++handles->sequence * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static struct slot *
slot_take(struct opb_handles *handles, uint32_t *index)
{
    if (handles->first_free != NO_SLOT) {
        *index = handles->first_free;
        handles->first_free = handles->slots[*index].next_free;
        return &handles->slots[*index];
    }
    if (handles->slot_count == handles->slot_capacity) {
        uint32_t capacity = handles->slot_capacity == 0 ? 64 : handles->slot_capacity * 2;
        struct slot *slots;

        if (handles->slot_capacity >= MAX_SLOTS) {
            return NULL;
        }
        slots = realloc(handles->slots, capacity * sizeof(*slots));
        if (slots == NULL) {
            return NULL;
        }
        handles->slots = slots;
        handles->slot_capacity = capacity;
    }
    *index = handles->slot_count++;
    return &handles->slots[*index];
}

static void
slot_give_back(struct opb_handles *handles, struct slot *slot)
{
    slot->state = SLOT_FREE;
    slot->object = NULL;
    slot->handle = 0;
    slot->next_free = handles->first_free;
    handles->first_free = (uint32_t)(slot - handles->slots);
    handles->used_count--;
}

static uint64_t
handle_new(struct opb_handles *handles, enum opb_class class_id, void *object,
           enum slot_state state)
{
    struct slot *slot;
    uint32_t index = 0;
    uint64_t handle = 0;

    if (object == NULL) {
        return 0;
    }
    pthread_mutex_lock(&handles->lock);
    slot = slot_take(handles, &index);
    if (slot != NULL) {
        do {
            handle = (next_nonce(handles) & ~SLOT_MASK) | index;
        } while (handle <= SLOT_MASK); /* a nonce of zero could be mistaken for "none" */
        *slot = (struct slot){
            .object = object, .handle = handle, .class_id = class_id, .state = state};
        handles->used_count++;
    }
    pthread_mutex_unlock(&handles->lock);
    return handle;
}

uint64_t
opb_handle_lend(struct opb_handles *handles, enum opb_class class_id, void *object)
{
    return handle_new(handles, class_id, object, SLOT_LENT);
}

uint64_t
opb_handle_own(struct opb_handles *handles, enum opb_class class_id, void *object)
{
    return handle_new(handles, class_id, object, SLOT_OWNED);
}

/* The slot of a handle, in whatever state; NULL if the handle means nothing (now). */
static struct slot *
slot_find(struct opb_handles *handles, uint64_t handle)
{
    uint64_t index = handle & SLOT_MASK;

    if (handle == 0 || index >= handles->slot_count ||
        handles->slots[index].handle != handle ||
        handles->slots[index].state == SLOT_FREE) {
        return NULL;
    }
    return &handles->slots[index];
}

static bool
slot_is_live(const struct slot *slot)
{
    return slot != NULL && (slot->state == SLOT_LENT || slot->state == SLOT_OWNED);
}

static bool
slot_is_pinned_elsewhere(const struct slot *slot)
{
    return slot->pins > 0 && !pthread_equal(slot->pinner, pthread_self());
}

void
opb_handle_end(struct opb_handles *handles, uint64_t handle)
{
    struct slot *slot;

    pthread_mutex_lock(&handles->lock);
    slot = slot_find(handles, handle);
    if (slot != NULL && slot->state == SLOT_LENT) {
        slot->state = SLOT_ENDING;
        /* No deadline: Orthanc destroys the object when this thread returns to it, so
         * that the SDK call of the other thread has to end first, as it will. */
        while (slot_is_pinned_elsewhere(slot)) {
            handles->waiter_count++;
            pthread_cond_wait(&handles->unpinned, &handles->lock);
            handles->waiter_count--;
            slot = slot_find(handles, handle); /* the array may have moved */
        }
        slot_give_back(handles, slot);
    }
    pthread_mutex_unlock(&handles->lock);
}

void *
opb_handle_pin(struct opb_handles *handles, uint64_t handle, enum opb_class class_id)
{
    uint64_t deadline_ms = opb_deadline_ms(OPB_PIN_WAIT_MS);
    enum opb_status status = OPB_OK;
    struct slot *slot;
    void *object = NULL;

    pthread_mutex_lock(&handles->lock);
    for (;;) {
        slot = slot_find(handles, handle);
        if (!slot_is_live(slot) || slot->class_id != class_id || status != OPB_OK) {
            break;
        }
        if (!slot_is_pinned_elsewhere(slot)) {
            slot->pinner = pthread_self();
            slot->pins++;
            object = slot->object;
            break;
        }
        handles->waiter_count++;
        status = opb_condition_wait(&handles->unpinned, &handles->lock, deadline_ms);
        handles->waiter_count--;
    }
    pthread_mutex_unlock(&handles->lock);
    return object;
}

void
opb_handle_unpin(struct opb_handles *handles, uint64_t handle)
{
    struct slot doomed = {.object = NULL};
    struct slot *slot;

    pthread_mutex_lock(&handles->lock);
    slot = slot_find(handles, handle);
    if (slot != NULL && slot->pins > 0 && --slot->pins == 0) {
        if (slot->state == SLOT_DOOMED) {
            doomed = *slot;
            slot_give_back(handles, slot);
        }
        if (handles->waiter_count > 0) {
            pthread_cond_broadcast(&handles->unpinned);
        }
    }
    pthread_mutex_unlock(&handles->lock);
    if (doomed.object != NULL) {
        (void)opb_sdk_free_object(doomed.context, doomed.class_id, doomed.object);
    }
}

bool
opb_handle_release(struct opb_handles *handles, uint64_t handle,
                   OrthancPluginContext *context)
{
    struct slot now = {.object = NULL};
    struct slot *slot;
    bool is_found = false;

    pthread_mutex_lock(&handles->lock);
    slot = slot_find(handles, handle);
    if (slot != NULL && slot->state == SLOT_OWNED) {
        is_found = true;
        if (slot->pins > 0) {
            slot->state = SLOT_DOOMED;
            slot->context = context;
        }
        else {
            now = *slot;
            slot_give_back(handles, slot);
        }
    }
    pthread_mutex_unlock(&handles->lock);
    if (now.object != NULL) {
        (void)opb_sdk_free_object(context, now.class_id, now.object);
    }
    return is_found;
}

void
opb_handle_mark(struct opb_handles *handles, uint64_t handle)
{
    struct slot *slot;

    pthread_mutex_lock(&handles->lock);
    slot = slot_find(handles, handle);
    if (slot != NULL) {
        slot->is_marked = true;
    }
    pthread_mutex_unlock(&handles->lock);
}

bool
opb_handle_is_marked(struct opb_handles *handles, uint64_t handle)
{
    struct slot *slot;
    bool is_marked;

    pthread_mutex_lock(&handles->lock);
    slot = slot_find(handles, handle);
    is_marked = slot != NULL && slot->is_marked;
    pthread_mutex_unlock(&handles->lock);
    return is_marked;
}

size_t
opb_handles_count(struct opb_handles *handles)
{
    size_t count;

    pthread_mutex_lock(&handles->lock);
    count = handles->used_count;
    pthread_mutex_unlock(&handles->lock);
    return count;
}
