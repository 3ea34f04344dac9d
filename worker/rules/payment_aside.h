/*
 * Events that were read and can't be handed out before others are, known by
 * their ids and payments only: the queue behind a payment's event when it is
 * long, and what is bound for where nothing is taken.  In the table of known
 * events they would take the place of events that can be published; here each
 * takes a third of that, and nothing of its row is kept.  Pure: no clock, no
 * I/O.
 *
 * Owner: the helper process; one a shard.
 * Limits: as many events as payment_aside_create() was told, 56 bytes
 * each; memory that was never used costs nothing.  Every call but
 * payment_aside_forget(), payment_aside_oldest(), payment_aside_lowest() and an
 * addition out of order takes constant time.
 *
 * Order: a payment's events come back in the order of their ids.  As long as
 * there are any, an event of the payment with a larger id belongs here, too:
 * payment_aside_precedes() tells.
 */

#ifndef PAYMENT_ASIDE_H_INCLUDED
#define PAYMENT_ASIDE_H_INCLUDED


#include <stddef.h>
#include <stdint.h>


typedef struct payment_aside_event_s  payment_aside_event_t;


struct payment_aside_event_s {
    uint64_t                id;            /* 0: free */
    uint64_t                payment;       /* hash of the payment's id */
    uint64_t                committed_us;  /* as that of payment_event_t */
    payment_aside_event_t  *id_next;       /* in its hash bucket; or free */
    payment_aside_event_t  *behind;        /* the next of its payment */

    /* of a payment's first one */
    payment_aside_event_t  *last;
    payment_aside_event_t  *payment_next;  /* in its hash bucket */
};


typedef struct {
    size_t                   n;
    size_t                   capacity;
    size_t                   used;          /* events that ever were */
    size_t                   buckets;       /* a power of 2 */
    payment_aside_event_t   *events;
    payment_aside_event_t   *free;
    payment_aside_event_t  **ids;
    payment_aside_event_t  **payments;
} payment_aside_t;


/* 0, or -1 when out of memory */

int payment_aside_create(payment_aside_t *t, size_t capacity);
void payment_aside_destroy(payment_aside_t *t);

/* 0, or -1 when it is full; the id must not be there. */

int payment_aside_add(payment_aside_t *t, uint64_t id, uint64_t payment,
    uint64_t committed_us);

static inline size_t
payment_aside_room(const payment_aside_t *t)
{
    return t->capacity - t->n;
}


int payment_aside_has(const payment_aside_t *t, uint64_t id);

/* Is there an event of this payment with a smaller id? */

int payment_aside_precedes(const payment_aside_t *t, uint64_t id,
    uint64_t payment);

/* The first id of a payment, which is here no longer; 0: there is none. */

uint64_t payment_aside_take(payment_aside_t *t, uint64_t payment);

/* When the oldest was created; 0: there is none.  Goes through them all. */

uint64_t payment_aside_oldest(const payment_aside_t *t);

/* The lowest id; UINT64_MAX: there is none.  The same. */

uint64_t payment_aside_lowest(const payment_aside_t *t);

void payment_aside_forget(payment_aside_t *t);


#endif /* PAYMENT_ASIDE_H_INCLUDED */
