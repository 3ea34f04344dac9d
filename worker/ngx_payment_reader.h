/*
 * Reads committed events of one shard, in order, each once.
 *
 * AUTO_INCREMENT order is not commit order, and its gaps last for ever.  So
 * the reader goes on from a cursor, and besides looks again at all ids up to
 * the cursor (the head): those that nobody knows were committed late, and
 * their rows are read by id.
 *
 * Nothing begins at the table's physical start, where deleted rows may lie for
 * hours, but at the shard's floor, see payment_floor.h.  The reader finds that
 * by looking, each PAYMENT_FLOOR_LAG_MS, for the lowest id that there is,
 * committed or not.  Where an event waits for long the floor stays with it.  So
 * the look at the head begins where the first row is that is not known, which
 * is found in the same way: below that all is settled.  Rows below, of a table
 * that was emptied or restored, are looked for once a second, for a tenth of a
 * second at most.
 *
 * A payment's earlier event is always committed before the row of a later one
 * is written, so whoever sees the later row can see the earlier; but only if
 * he looks.  Hence the gate: an event of a version above 1 may be handed out
 * only after a look at the head that began after its row was seen.  A read
 * that starts at the floor is such a look itself.
 *
 * A server shows a transaction to others a moment before it is on disk, and if
 * it dies in that moment the transaction never was.  Rows whose COMMIT was
 * answered to this nginx are on disk, see ngx_payment_proved.h.  A read that
 * comes to another one stops there.  If that one is not proved by the time of
 * the next read, it is another node's, or its COMMIT takes long: the next read
 * commits something itself before its rows are handed out (the barrier), for
 * when that is on disk, so is all that was to be seen before.  If it is another
 * node's, all reads of the next second have barriers.
 *
 * Nothing is read while the connection on which rows are deleted is with
 * another server, nor while published events are UNSURE: an id that hides a
 * row would hide it from the look at the head, too.
 *
 * Owner: the helper process.
 * Limits: one exchange in flight; as many rows as fit into the shard's table
 * and NGX_PAYMENT_READER_HELD, and the one read that goes beyond it; looking
 * at the head takes a twentieth of the time, less with a backlog, unless a
 * gate waits for it.
 *
 * No busy loop and no delay: the doorbell, the poll interval, or the end of a
 * pause starts a read; how long the pause is, under load alone, is for
 * payment_pace.h.
 */

#ifndef NGX_PAYMENT_READER_H
#define NGX_PAYMENT_READER_H

#include "ngx_payment_outbox_shard.h"
#include "payment_pace.h"


/* bytes of rows that are read and can't be handed out yet: stop reading */
#define NGX_PAYMENT_READER_HELD       (8 * 1024 * 1024)

/* the next read is of twice what the last one found, and the full ones just
 * before it, at most of so many times payment_outbox_batch_size, and of so many
 * bytes */
#define NGX_PAYMENT_READER_GROWTH     8
#define NGX_PAYMENT_READER_BYTES      (4 * 1024 * 1024)

#define NGX_PAYMENT_READER_WANTED     256      /* rows read by their ids */

#define NGX_PAYMENT_READER_EARLY      4000     /* events published whose rows
                                                  were not seen */


typedef enum {
    NGX_PAYMENT_READER_IDLE = 0,
    NGX_PAYMENT_READER_READING,
    NGX_PAYMENT_READER_STALE       /* reading; the answer is to be dropped */
} ngx_payment_reader_state_e;


/* Are there dead letters, which later rows of their payments are to follow? */

typedef enum {
    NGX_PAYMENT_READER_DEAD_NONE = 0,
    NGX_PAYMENT_READER_DEAD_MAYBE,
    NGX_PAYMENT_READER_DEAD_NEWER  /* one was made since this was asked */
} ngx_payment_reader_dead_e;


/* the statements of an exchange, of which each is there once or not at all */

typedef enum {
    NGX_PAYMENT_READ_WANTED = 0,   /* rows by their ids */
    NGX_PAYMENT_READ_NEXT,         /* rows after the cursor */
    NGX_PAYMENT_READ_BARRIER,
    NGX_PAYMENT_READ_CONFIRMED,    /* has a replica the barrier? */
    NGX_PAYMENT_READ_HEAD,         /* ids from what is settled to the cursor */
    NGX_PAYMENT_READ_MAX,          /* how far the table goes */
    NGX_PAYMENT_READ_DEAD,         /* are there dead letters? */
    NGX_PAYMENT_READ_BELOW,        /* are there rows below the floor? */
    NGX_PAYMENT_READ_SETTLED,      /* ids from the floor to what is settled */
    NGX_PAYMENT_READ_LEVEL,        /* the next statement reads what is not
                                      committed, too */
    NGX_PAYMENT_READ_UNSETTLED,    /* the same ids as HEAD */
    NGX_PAYMENT_READ_STMTS
} ngx_payment_read_e;


typedef struct {
    ngx_payment_outbox_shard_t  *sh;
    ngx_payment_db_t             db;
    ngx_payment_reader_state_e   state;

    ngx_payment_db_stmt_t        stmts[NGX_PAYMENT_READ_STMTS];
    ngx_uint_t                   n;
    ngx_payment_db_stmt_t       *asked[NGX_PAYMENT_READ_STMTS]; /* NULL: not */
    u_char                      *sql[NGX_PAYMENT_READ_STMTS];

    uint64_t                     cursor;      /* all up to it were seen once */
    uint64_t                     asked_cursor; /* when the read began */
    ngx_uint_t                   limit;       /* rows of the next read */
    ngx_uint_t                   run;         /* of the last read, and of the
                                                 full ones just before it */
    ngx_uint_t                   past;        /* READY, but their lanes have no
                                                 room: others are read, too */
    ngx_uint_t                   asked_rows;  /* of the read under way */
    uint64_t                     head_from;   /* where the look under way
                                                 at the head began */
    size_t                       head_limit;  /* ids that it may return */
    size_t                       unsettled_limit; /* the same of UNSETTLED */
    uint64_t                     heads;       /* looks at the head, started */
    uint64_t                     heads_done;  /* the latest that ended */
    uint64_t                     started_ns;
    uint64_t                     head_at_ns;  /* the next look at the head */
    uint64_t                     max_at_ns;   /* the next look at the end */
    uint64_t                     dead_at_ns;  /* the next look at the dead */
    uint64_t                     below_at_ns; /* the next look below it */
    uint64_t                     unsettled_at_ns; /* the next for these */
    ngx_uint_t                   doubts;      /* that the floor is from */

    ngx_payment_proved_t        *given;       /* first events that were read
                                                 and handed out, of late */
    ngx_atomic_uint_t            missed;      /* events that were not news, when
                                                 the last read began */
    uint64_t                     rewound_ns;  /* it began anew */

    uint64_t                     unproved;    /* what the last read stopped
                                                 at; 0: at nothing */
    uint64_t                     barrier_until_ns;  /* all reads have one */

    payment_pace_t               pace;
    ngx_event_t                  timer;       /* the end of a pause */
    ngx_event_t                  kick;
    ngx_msec_t                   not_before;  /* the end of the pause */

    size_t                       row_size;    /* average */
    uint64_t                     beyond;      /* rows after the cursor, about */
    uint64_t                     density;     /* rows in 1024 ids, about */

    ngx_payment_reader_dead_e    dead;
    uint64_t                     read_at_ms;  /* the latest that succeeded */
    uint64_t                     below_id;    /* where READ_BELOW ends */
    uint64_t                     retry_at_ms; /* after a failure */
    ngx_uint_t                   failures;    /* in a row */
    ngx_uint_t                   last_error;  /* of the database, logged */

    unsigned                     connected:1; /* once at least */
    unsigned                     unfit:1;     /* the connection is given up */
    unsigned                     again:1;     /* the bell rang meanwhile */
    unsigned                     full:1;      /* the last read came back full */
    unsigned                     doubted:1;   /* unproved: a read had a barrier
                                                 for its sake */
    unsigned                     starved:1;   /* the table had no room */
    unsigned                     from_floor:1;  /* it began there */
    unsigned                     complete:1;  /* the last read saw all rows
                                                 after the cursor */
    unsigned                     none_below:1;  /* and that there are none below
                                                 the floor */
    unsigned                     behind:1;    /* there are more rows that nobody
                                                 knows */
    unsigned                     mixed:1;     /* it held later versions */
    unsigned                     head_wanted:1;  /* a gate waits for a look */
} ngx_payment_reader_t;


ngx_int_t ngx_payment_reader_init(ngx_payment_reader_t *rd);
void ngx_payment_reader_open(ngx_payment_reader_t *rd);
void ngx_payment_reader_close(ngx_payment_reader_t *rd);

/* The doorbell rang. */
void ngx_payment_reader_wake(ngx_payment_reader_t *rd);

/* Reads if there is room and the poll interval is over, unless the end of a
 * pause will; soon: not from within this call; more: soon, if the last read was
 * full, or the table was, or rows are wanted. */
void ngx_payment_reader_tick(ngx_payment_reader_t *rd, uint64_t now_ns);
void ngx_payment_reader_soon(ngx_payment_reader_t *rd);
void ngx_payment_reader_more(ngx_payment_reader_t *rd);

/* Are a payment's first events to be handed out when they are told of, before
 * their rows were seen?  And is this one? */
ngx_uint_t ngx_payment_reader_listens(ngx_payment_reader_t *rd,
    uint64_t now_ns);
ngx_uint_t ngx_payment_reader_believes(ngx_payment_reader_t *rd,
    const ngx_payment_news_item_t *item, uint64_t now_ns);

/* Is there a connection, to the server on which rows are changed? */
ngx_uint_t ngx_payment_reader_connected(ngx_payment_reader_t *rd);

/* The server can't write: the connection is given up when it is free. */
void ngx_payment_reader_give_up(ngx_payment_reader_t *rd);

/* Begin at the floor; what is being read is dropped. */
void ngx_payment_reader_rewind(ngx_payment_reader_t *rd);

/* There may be dead letters: with "block", later rows of their payments are to
 * follow them. */
void ngx_payment_reader_block(ngx_payment_reader_t *rd);

/* May an event of a later version be handed out?  If not, the look at the head
 * that it waits for is made. */
ngx_uint_t ngx_payment_reader_gate(ngx_payment_reader_t *rd,
    payment_event_t *e);

#endif /* NGX_PAYMENT_READER_H */
