/*
 * Events known by their ids and payments only; see payment_aside.h.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "payment_aside.h"


static payment_aside_event_t *payment_aside_new(payment_aside_t *t);
static void payment_aside_queue(payment_aside_t *t, payment_aside_event_t *e);
static payment_aside_event_t **payment_aside_id_bucket(
    const payment_aside_t *t, uint64_t id);
static payment_aside_event_t **payment_aside_first(const payment_aside_t *t,
    uint64_t payment);


int
payment_aside_create(payment_aside_t *t, size_t capacity)
{
    assert(capacity > 0);

    memset(t, 0, sizeof(payment_aside_t));

    t->capacity = capacity;

    for (t->buckets = 64; t->buckets < capacity; t->buckets *= 2) {
        /* void */
    }

    /* zeroed memory of this size is not there before it is written to */

    t->events = calloc(capacity, sizeof(payment_aside_event_t));
    t->ids = calloc(t->buckets, sizeof(payment_aside_event_t *));
    t->payments = calloc(t->buckets, sizeof(payment_aside_event_t *));

    if (t->events == NULL || t->ids == NULL || t->payments == NULL) {
        payment_aside_destroy(t);
        return -1;
    }

    return 0;
}


void
payment_aside_destroy(payment_aside_t *t)
{
    free(t->events);
    free(t->ids);
    free(t->payments);

    memset(t, 0, sizeof(payment_aside_t));
}


int
payment_aside_add(payment_aside_t *t, uint64_t id, uint64_t payment,
    uint64_t committed_us)
{
    payment_aside_event_t  *e, **bucket;

    assert(id && !payment_aside_has(t, id));

    e = payment_aside_new(t);

    if (e == NULL) {
        return -1;
    }

    e->id = id;
    e->payment = payment;
    e->committed_us = committed_us;

    bucket = payment_aside_id_bucket(t, id);
    e->id_next = *bucket;
    *bucket = e;

    payment_aside_queue(t, e);

    t->n++;

    return 0;
}


static payment_aside_event_t *
payment_aside_new(payment_aside_t *t)
{
    payment_aside_event_t  *e;

    e = t->free;

    if (e) {
        t->free = e->id_next;

    } else {
        if (t->used == t->capacity) {
            return NULL;
        }

        e = &t->events[t->used++];
    }

    memset(e, 0, sizeof(payment_aside_event_t));

    return e;
}


/* Ids rise, so an event mostly belongs behind the last one of its payment. */

static void
payment_aside_queue(payment_aside_t *t, payment_aside_event_t *e)
{
    payment_aside_event_t  *first, *before, **place;

    place = payment_aside_first(t, e->payment);
    first = *place;

    if (first == NULL) {
        e->last = e;
        *place = e;
        return;
    }

    if (e->id < first->id) {
        e->behind = first;
        e->last = first->last;
        e->payment_next = first->payment_next;
        *place = e;
        return;
    }

    before = first->last;

    if (e->id > before->id) {
        first->last = e;

    } else {
        for (before = first; before->behind->id < e->id; ) {
            before = before->behind;
        }
    }

    e->behind = before->behind;
    before->behind = e;
}


int
payment_aside_has(const payment_aside_t *t, uint64_t id)
{
    payment_aside_event_t  *e;

    if (t->n == 0) {
        return 0;
    }

    for (e = *payment_aside_id_bucket(t, id); e; e = e->id_next) {
        if (e->id == id) {
            return 1;
        }
    }

    return 0;
}


int
payment_aside_precedes(const payment_aside_t *t, uint64_t id, uint64_t payment)
{
    payment_aside_event_t  *first;

    if (t->n == 0) {
        return 0;
    }

    first = *payment_aside_first(t, payment);

    return first && first->id < id;
}


uint64_t
payment_aside_take(payment_aside_t *t, uint64_t payment)
{
    uint64_t                id;
    payment_aside_event_t  *e, *next, **place;

    if (t->n == 0) {
        return 0;
    }

    place = payment_aside_first(t, payment);
    e = *place;

    if (e == NULL) {
        return 0;
    }

    next = e->behind;

    if (next) {
        next->last = e->last;
        next->payment_next = e->payment_next;
        *place = next;

    } else {
        *place = e->payment_next;
    }

    place = payment_aside_id_bucket(t, e->id);

    while (*place != e) {
        assert(*place);
        place = &(*place)->id_next;
    }

    *place = e->id_next;

    id = e->id;
    e->id = 0;
    e->id_next = t->free;
    t->free = e;
    t->n--;

    return id;
}


uint64_t
payment_aside_oldest(const payment_aside_t *t)
{
    size_t                        i;
    uint64_t                      oldest;
    const payment_aside_event_t  *e;

    oldest = 0;

    for (i = 0; i < t->used; i++) {
        e = &t->events[i];

        if (e->id && (oldest == 0 || e->committed_us < oldest)) {
            oldest = e->committed_us;
        }
    }

    return oldest;
}


uint64_t
payment_aside_lowest(const payment_aside_t *t)
{
    size_t    i;
    uint64_t  lowest;

    lowest = UINT64_MAX;

    for (i = 0; i < t->used; i++) {
        if (t->events[i].id && t->events[i].id < lowest) {
            lowest = t->events[i].id;
        }
    }

    return lowest;
}


void
payment_aside_forget(payment_aside_t *t)
{
    if (t->used == 0) {
        return;
    }

    memset(t->ids, 0, t->buckets * sizeof(payment_aside_event_t *));
    memset(t->payments, 0, t->buckets * sizeof(payment_aside_event_t *));

    t->n = 0;
    t->used = 0;
    t->free = NULL;
}


static payment_aside_event_t **
payment_aside_id_bucket(const payment_aside_t *t, uint64_t id)
{
    return &t->ids[id & (t->buckets - 1)];
}


/* where the first event of a payment is, or would be */

static payment_aside_event_t **
payment_aside_first(const payment_aside_t *t, uint64_t payment)
{
    payment_aside_event_t  **place;

    place = &t->payments[payment & (t->buckets - 1)];

    while (*place && (*place)->payment != payment) {
        place = &(*place)->payment_next;
    }

    return place;
}
