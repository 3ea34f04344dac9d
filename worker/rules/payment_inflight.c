/*
 * The events that the outbox knows; see payment_inflight.h.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "payment_inflight.h"


static int payment_inflight_grow(payment_inflight_t *t);
static void payment_inflight_append(payment_event_list_t *list,
    payment_event_t *e);
static void payment_inflight_unlink(payment_event_list_t *list,
    payment_event_t *e);
static void payment_inflight_sort_in(payment_event_list_t *list,
    payment_event_t *e);
static void payment_inflight_link(payment_event_t *e,
    payment_event_state_e state);
static void payment_inflight_unlink_id(payment_event_t *e);
static payment_event_t **payment_inflight_id_bucket(payment_inflight_t *t,
    uint64_t id);
static payment_event_t **payment_inflight_payment_bucket(payment_inflight_t *t,
    uint64_t payment);
static void payment_inflight_release_payment(payment_event_t *e);


int
payment_inflight_create(payment_inflight_t *t, size_t capacity,
    void (*free_data)(void *data))
{
    assert(capacity > 0);

    memset(t, 0, sizeof(payment_inflight_t));

    t->capacity = capacity;
    t->free_data = free_data;

    for (t->buckets = 64; t->buckets < capacity; t->buckets *= 2) {
        /* void */
    }

    t->ids = calloc(t->buckets, sizeof(payment_event_t *));
    t->payments = calloc(t->buckets, sizeof(payment_event_t *));
    t->slabs = calloc(capacity / PAYMENT_INFLIGHT_SLAB + 1,
                      sizeof(payment_event_t *));

    if (t->ids == NULL || t->payments == NULL || t->slabs == NULL) {
        payment_inflight_destroy(t);
        return -1;
    }

    return 0;
}


/* No event is free: makes some more, if there may be more.  0, or -1. */

static int
payment_inflight_grow(payment_inflight_t *t)
{
    size_t            i, n, made;
    payment_event_t  *slab;

    made = t->nslabs * PAYMENT_INFLIGHT_SLAB;

    if (made >= t->capacity) {
        return -1;
    }

    n = t->capacity - made;
    n = (n < PAYMENT_INFLIGHT_SLAB) ? n : PAYMENT_INFLIGHT_SLAB;

    slab = calloc(n, sizeof(payment_event_t));
    if (slab == NULL) {
        return -1;
    }

    t->slabs[t->nslabs++] = slab;

    for (i = 0; i < n; i++) {
        slab[i].table = t;
        payment_inflight_append(&t->lists[PAYMENT_EVENT_FREE], &slab[i]);
    }

    return 0;
}


void
payment_inflight_destroy(payment_inflight_t *t)
{
    payment_inflight_forget(t);

    while (t->nslabs) {
        free(t->slabs[--t->nslabs]);
    }

    free(t->ids);
    free(t->payments);
    free(t->slabs);

    memset(t, 0, sizeof(payment_inflight_t));
}


payment_event_t *
payment_inflight_find(payment_inflight_t *t, uint64_t id)
{
    payment_event_t  *e;

    for (e = *payment_inflight_id_bucket(t, id); e; e = e->id_next) {
        if (e->id == id) {
            return e;
        }
    }

    return NULL;
}


uint64_t
payment_inflight_lowest(const payment_inflight_t *t)
{
    uint64_t                id;
    payment_event_state_e   state;
    const payment_event_t  *e;

    id = UINT64_MAX;

    for (state = PAYMENT_EVENT_WANTED; state < PAYMENT_EVENT_STATES; state++) {
        for (e = t->lists[state].first; e; e = e->next) {
            id = (e->id < id) ? e->id : id;
        }
    }

    return id;
}


payment_event_t *
payment_inflight_add(payment_inflight_t *t, uint64_t id,
    payment_event_state_e state)
{
    payment_event_t  *e, **bucket;

    assert(payment_inflight_find(t, id) == NULL);

    if (t->lists[PAYMENT_EVENT_FREE].n == 0 && payment_inflight_grow(t) != 0) {
        return NULL;
    }

    e = t->lists[PAYMENT_EVENT_FREE].first;

    payment_inflight_unlink(&t->lists[PAYMENT_EVENT_FREE], e);

    memset(e, 0, sizeof(payment_event_t));

    e->table = t;
    e->id = id;

    bucket = payment_inflight_id_bucket(t, id);
    e->id_next = *bucket;
    *bucket = e;

    t->early += (payment_inflight_is_early(e) != 0);

    payment_inflight_link(e, state);

    return e;
}


void
payment_inflight_rename(payment_event_t *e, uint64_t id)
{
    payment_event_t  **bucket;

    assert(payment_inflight_find(e->table, id) == NULL);
    assert(e->state == PAYMENT_EVENT_SENT || e->state == PAYMENT_EVENT_EARLY);

    payment_inflight_unlink_id(e);

    e->id = id;

    bucket = payment_inflight_id_bucket(e->table, id);
    e->id_next = *bucket;
    *bucket = e;
}


void
payment_inflight_move(payment_event_t *e, payment_event_state_e state)
{
    assert(e->state != PAYMENT_EVENT_FREE && state != PAYMENT_EVENT_FREE);

    payment_inflight_unlink(&e->table->lists[e->state], e);
    payment_inflight_link(e, state);
}


void
payment_inflight_remove(payment_event_t *e)
{
    assert(e->state != PAYMENT_EVENT_FREE);
    assert(!e->occupies && e->behind == NULL);

    payment_inflight_free_data(e);
    payment_inflight_unlink_id(e);

    payment_inflight_unlink(&e->table->lists[e->state], e);
    payment_inflight_link(e, PAYMENT_EVENT_FREE);
}


static void
payment_inflight_unlink_id(payment_event_t *e)
{
    payment_event_t  **p;

    p = payment_inflight_id_bucket(e->table, e->id);

    while (*p != e) {
        assert(*p);
        p = &(*p)->id_next;
    }

    *p = e->id_next;

    e->table->early -= (payment_inflight_is_early(e) != 0);
}


void
payment_inflight_set_data(payment_event_t *e, void *data, uint32_t size)
{
    payment_inflight_free_data(e);

    e->data = data;
    e->size = size;
    e->table->data_size += size;
}


void
payment_inflight_free_data(payment_event_t *e)
{
    if (e->data == NULL) {
        return;
    }

    assert(e->table->data_size >= e->size);

    e->table->data_size -= e->size;
    e->table->free_data(e->data);
    e->data = NULL;
    e->size = 0;
}


payment_event_t *
payment_inflight_occupant(payment_event_t *e)
{
    payment_event_t  *o;

    if (e->occupies) {
        return e;
    }

    o = *payment_inflight_payment_bucket(e->table, e->payment);

    while (o && o->payment != e->payment) {
        o = o->payment_next;
    }

    return o;
}


void
payment_inflight_occupy(payment_event_t *e)
{
    payment_event_t  **bucket;

    if (e->occupies) {
        return;
    }

    assert(payment_inflight_occupant(e) == NULL);

    bucket = payment_inflight_payment_bucket(e->table, e->payment);
    e->payment_next = *bucket;
    *bucket = e;

    e->occupies = 1;
    e->queued = 0;
    e->behind = NULL;
    e->last_behind = NULL;
}


void
payment_inflight_queue(payment_event_t *occupant, payment_event_t *e)
{
    assert(occupant->occupies && !e->occupies);
    assert(e->state == PAYMENT_EVENT_READY && e->behind == NULL);

    if (occupant->last_behind) {
        occupant->last_behind->behind = e;
    } else {
        occupant->behind = e;
    }

    occupant->last_behind = e;
    occupant->queued++;

    payment_inflight_move(e, PAYMENT_EVENT_BEHIND);
}


payment_event_t *
payment_inflight_vacate(payment_event_t *e)
{
    uint32_t          queued;
    payment_event_t  *next, *last;

    next = e->behind;
    last = e->last_behind;
    queued = e->queued;

    payment_inflight_release_payment(e);

    if (next == NULL) {
        return NULL;
    }

    assert(next->state == PAYMENT_EVENT_BEHIND);

    last = (last == next) ? NULL : last;
    e = next->behind;

    next->behind = NULL;
    payment_inflight_occupy(next);
    next->behind = e;
    next->last_behind = last;
    next->queued = queued - 1;

    payment_inflight_move(next, PAYMENT_EVENT_READY);

    return next;
}


void
payment_inflight_forget_unsent(payment_inflight_t *t)
{
    size_t                 i;
    payment_event_t       *e, *next;
    payment_event_state_e  state;

    static const payment_event_state_e  unsent[] = {
        PAYMENT_EVENT_WANTED, PAYMENT_EVENT_READY, PAYMENT_EVENT_BEHIND
    };

    /* No event waits behind another any longer.  This comes first, so that no
     * chain leads to an event that is free. */

    for (state = PAYMENT_EVENT_WANTED; state < PAYMENT_EVENT_STATES; state++) {
        for (e = t->lists[state].first; e; e = e->next) {
            e->behind = NULL;
            e->last_behind = NULL;
            e->queued = 0;
        }
    }

    for (i = 0; i < sizeof(unsent) / sizeof(unsent[0]); i++) {
        for (e = t->lists[unsent[i]].first; e; e = next) {
            next = e->next;

            if (e->occupies) {
                payment_inflight_release_payment(e);
            }

            payment_inflight_remove(e);
        }
    }
}


void
payment_inflight_forget(payment_inflight_t *t)
{
    payment_event_t        *e;
    payment_event_state_e   state;

    payment_inflight_forget_unsent(t);

    for (state = PAYMENT_EVENT_WANTED; state < PAYMENT_EVENT_STATES; state++) {
        while ((e = t->lists[state].first) != NULL) {
            if (e->occupies) {
                payment_inflight_release_payment(e);
            }

            payment_inflight_remove(e);
        }
    }
}


/* FNV-1a, with a final mix for texts that differ in their last digits only. */

uint64_t
payment_inflight_hash(const void *data, size_t len)
{
    uint64_t              h;
    const unsigned char  *p, *end;

    h = UINT64_C(14695981039346656037);
    p = data;

    for (end = p + len; p < end; p++) {
        h = (h ^ *p) * UINT64_C(1099511628211);
    }

    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;

    return h;
}


static void
payment_inflight_link(payment_event_t *e, payment_event_state_e state)
{
    e->state = (uint8_t) state;

    if (state == PAYMENT_EVENT_READY) {
        payment_inflight_sort_in(&e->table->lists[state], e);
    } else {
        payment_inflight_append(&e->table->lists[state], e);
    }
}


static void
payment_inflight_append(payment_event_list_t *list, payment_event_t *e)
{
    e->prev = list->last;
    e->next = NULL;

    if (list->last) {
        list->last->next = e;
    } else {
        list->first = e;
    }

    list->last = e;
    list->n++;
}


/*
 * From the cursor come ever larger ids, which belong at the end; what was
 * late, queued or tried again belongs near the front.
 */

static void
payment_inflight_sort_in(payment_event_list_t *list, payment_event_t *e)
{
    payment_event_t  *after;

    if (list->last == NULL || list->last->id < e->id) {
        payment_inflight_append(list, e);
        return;
    }

    for (after = list->first; after->id < e->id; after = after->next) {
        /* The last event of the list ends the loop at the latest. */
    }

    e->next = after;
    e->prev = after->prev;
    after->prev = e;

    if (e->prev) {
        e->prev->next = e;
    } else {
        list->first = e;
    }

    list->n++;
}


static void
payment_inflight_unlink(payment_event_list_t *list, payment_event_t *e)
{
    assert(list->n > 0);

    if (e->prev) {
        e->prev->next = e->next;
    } else {
        list->first = e->next;
    }

    if (e->next) {
        e->next->prev = e->prev;
    } else {
        list->last = e->prev;
    }

    e->prev = NULL;
    e->next = NULL;
    list->n--;
}


static payment_event_t **
payment_inflight_id_bucket(payment_inflight_t *t, uint64_t id)
{
    /* Ids are dense: without any hash they spread evenly over the buckets. */
    return &t->ids[id & (t->buckets - 1)];
}


static payment_event_t **
payment_inflight_payment_bucket(payment_inflight_t *t, uint64_t payment)
{
    return &t->payments[payment & (t->buckets - 1)];
}


static void
payment_inflight_release_payment(payment_event_t *e)
{
    payment_event_t  **p;

    assert(e->occupies);

    p = payment_inflight_payment_bucket(e->table, e->payment);

    while (*p != e) {
        assert(*p);
        p = &(*p)->payment_next;
    }

    *p = e->payment_next;

    e->payment_next = NULL;
    e->occupies = 0;
    e->behind = NULL;
    e->last_behind = NULL;
}
