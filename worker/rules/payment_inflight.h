/*
 * The events of one shard that the outbox knows: from the moment their rows
 * were seen until they are gone from the table.  What is known here is never
 * handed out a second time, however often the reader meets the row.  Pure: no
 * clock, no I/O, no global.
 *
 * Owner: the helper process; one thread.
 * Limits: as many events as payment_inflight_create() was told, about 150
 * bytes each, allocated PAYMENT_INFLIGHT_SLAB at a time when there first are
 * so many; and kept.  Every call but the drops and an insertion far from the
 * front takes constant time.
 *
 * Order: at most one event of a payment is on its way.  An event that is
 * handed out, tried again or given up occupies its payment; later events of
 * the payment wait behind it, in order of their ids, until it vacates.
 * Payments are told apart by a 64-bit hash: two that collide wait for each
 * other, which costs time and not order.
 */

#ifndef PAYMENT_INFLIGHT_H_INCLUDED
#define PAYMENT_INFLIGHT_H_INCLUDED


#include <stddef.h>
#include <stdint.h>


typedef enum {
    PAYMENT_EVENT_FREE = 0,
    PAYMENT_EVENT_WANTED,       /* known by its id: its row is to be read */
    PAYMENT_EVENT_READY,        /* can be handed out; sorted by id */
    PAYMENT_EVENT_BEHIND,         /* waits behind another of its payment */
    PAYMENT_EVENT_SENT,         /* the producer has it; in order of sending */
    PAYMENT_EVENT_ACKED,        /* Kafka has it; to be deleted */
    PAYMENT_EVENT_DELETING,     /* a transaction on it is under way */
    PAYMENT_EVENT_REFUSED,      /* failed for its own sake: waits for a retry */
    PAYMENT_EVENT_SUSPECT,      /* read again, to be sent with nothing else */
    PAYMENT_EVENT_DEAD,         /* to be moved to the dead letters */
    PAYMENT_EVENT_GONE,         /* deleted, but a read under way may show it */
    PAYMENT_EVENT_UNSURE,       /* was ACKED: is the row still the same? */
    PAYMENT_EVENT_EARLY         /* Kafka has it; its row was not seen yet */
} payment_event_state_e;

#define PAYMENT_EVENT_STATES    13

#define PAYMENT_INFLIGHT_SLAB   512         /* events */

/* An event whose row was not seen yet has this in place of an id, with a hash
 * of what it is: no row has so large a number. */
#define PAYMENT_INFLIGHT_EARLY  (UINT64_C(1) << 63)


typedef struct payment_event_s     payment_event_t;
typedef struct payment_inflight_s  payment_inflight_t;


struct payment_event_s {
    uint64_t                 id;
    uint64_t                 payment;       /* hash of the payment's id */
    uint64_t                 committed_us;  /* in Unix time, as far as it is
                                               known: its row is older */
    uint64_t                 since_ns;      /* SENT: by the producer's time;
                                               EARLY, REFUSED: by the clock */
    uint64_t                 token;         /* the breaker's */
    uint64_t                 gate;          /* the caller's: the look at the
                                               head that must have ended */
    void                    *data;          /* the row: READY, BEHIND,
                                               SUSPECT */
    payment_inflight_t      *table;

    uint32_t                 version;
    uint32_t                 crc;           /* the caller's: of the payment's
                                               id, as the database has it */
    uint32_t                 read;          /* the caller's: a number of the
                                               read that saw its row */
    uint32_t                 size;          /* of data */
    uint16_t                 attempts;
    uint16_t                 reason;        /* the caller's: why REFUSED */
    uint32_t                 mark;          /* the caller's: what its topic
                                               had taken when it refused */
    uint32_t                 queued;        /* events behind one that occupies
                                               its payment */
    uint8_t                  state;         /* payment_event_state_e */
    uint8_t                  topic;         /* the caller's: an index */
    uint8_t                  lane;          /* the caller's: an index, too */
    unsigned                 follower:1;    /* DEAD only for its payment's */
    unsigned                 asked:1;       /* WANTED: the read is under way */
    unsigned                 occupies:1;    /* its payment: others wait */
    unsigned                 unproven:1;    /* SENT: its topic took none yet */
    unsigned                 first:1;       /* SENT when its producer was about
                                               to connect */
    unsigned                 excused:1;     /* SENT: its lane is stuck, so it
                                               says nothing of Kafka */
    unsigned                 scout:1;       /* to be sent where no event is
                                               taken */
    unsigned                 alone:1;       /* sent with nothing else */
    unsigned                 doubted:1;     /* SENT: its id may mean another
                                               row by now */
    uint16_t                 span;          /* the caller's: an index */

    payment_event_t         *prev;          /* among those of its state */
    payment_event_t         *next;
    payment_event_t         *id_next;       /* in its hash bucket */
    payment_event_t         *payment_next;  /* in its hash bucket */
    payment_event_t         *behind;        /* the next of its payment */
    payment_event_t         *last_behind;   /* of one that occupies */
};


typedef struct {
    payment_event_t         *first;
    payment_event_t         *last;
    size_t                   n;
} payment_event_list_t;


struct payment_inflight_s {
    void                    *owner;         /* the caller's */
    payment_event_list_t     lists[PAYMENT_EVENT_STATES];
    size_t                   capacity;
    size_t                   data_size;     /* sum of the events' sizes */
    size_t                   early;         /* events whose row was not seen */
    void                   (*free_data)(void *data);

    size_t                   buckets;       /* a power of 2 */
    payment_event_t        **ids;
    payment_event_t        **payments;
    payment_event_t        **slabs;         /* as many as there are so far */
    size_t                   nslabs;
};


/* 0, or -1 when out of memory */

int payment_inflight_create(payment_inflight_t *t, size_t capacity,
    void (*free_data)(void *data));
void payment_inflight_destroy(payment_inflight_t *t);


payment_event_t *payment_inflight_find(payment_inflight_t *t, uint64_t id);

/* The lowest id that is known; UINT64_MAX: none is.  Goes through them all. */

uint64_t payment_inflight_lowest(const payment_inflight_t *t);

/* An unknown id becomes known.  NULL: full, or out of memory.  Sorted in when
 * READY. */

payment_event_t *payment_inflight_add(payment_inflight_t *t, uint64_t id,
    payment_event_state_e state);

/* The row of an early event was seen: its id, which is no other's, is known. */

void payment_inflight_rename(payment_event_t *e, uint64_t id);

/* To the end of the list of another state; sorted in when READY. */

void payment_inflight_move(payment_event_t *e, payment_event_state_e state);

/* Forgets an event that occupies nothing and waits for nobody. */

void payment_inflight_remove(payment_event_t *e);

void payment_inflight_set_data(payment_event_t *e, void *data, uint32_t size);
void payment_inflight_free_data(payment_event_t *e);


/* Who occupies this event's payment: itself, another, or NULL. */

payment_event_t *payment_inflight_occupant(payment_event_t *e);

/* The payment must be free, or its own already. */

void payment_inflight_occupy(payment_event_t *e);

/* A READY event queues behind the one that occupies its payment: BEHIND. */

void payment_inflight_queue(payment_event_t *occupant, payment_event_t *e);

/* The next in the queue takes the payment over and becomes READY: it, or
 * NULL. */

payment_event_t *payment_inflight_vacate(payment_event_t *e);

/* Forgets what was not handed out: WANTED, READY, BEHIND. */

void payment_inflight_forget_unsent(payment_inflight_t *t);

/* Forgets everything. */

void payment_inflight_forget(payment_inflight_t *t);


static inline int
payment_inflight_is_early(const payment_event_t *e)
{
    return (e->id & PAYMENT_INFLIGHT_EARLY) != 0;
}


static inline size_t
payment_inflight_count(const payment_inflight_t *t, payment_event_state_e state)
{
    return t->lists[state].n;
}


static inline payment_event_t *
payment_inflight_first(const payment_inflight_t *t, payment_event_state_e state)
{
    return t->lists[state].first;
}


static inline size_t
payment_inflight_room(const payment_inflight_t *t)
{
    size_t  made;

    made = t->nslabs * PAYMENT_INFLIGHT_SLAB;
    made = (made < t->capacity) ? made : t->capacity;

    return t->capacity - made + t->lists[PAYMENT_EVENT_FREE].n;
}


/* a hash of a payment's id */

uint64_t payment_inflight_hash(const void *data, size_t len);


#endif /* PAYMENT_INFLIGHT_H_INCLUDED */
