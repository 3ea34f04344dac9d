/*
 * One operation on a payment, from the parsed request to its outcome.
 *
 * An operation outlives its HTTP request: when the client goes away, the
 * payment goes on.  It is owned by the writer from submit to settle; the
 * request only holds a pointer, which it gives up with ngx_payment_op_detach().
 *
 *     QUEUED -> BATCHED -> SETTLED
 *        ^         |          ^
 *        |         v          |
 *        +--- COPY, RIVAL ----+
 *
 * Of operations with one key, one leads and the others follow it: see
 * ngx_payment_leaders.h.  A copy is the same request and has the outcome of the
 * one that leads.  A rival is another request: if the one that leads is carried
 * out, the rival is refused, and if that one is refused, the first rival leads
 * the others.
 */

#ifndef NGX_PAYMENT_OP_H
#define NGX_PAYMENT_OP_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_clock.h"
#include "payment.h"


typedef struct ngx_payment_op_s      ngx_payment_op_t;
typedef struct ngx_payment_batch_s   ngx_payment_batch_t;

/* Called once, when the outcome is final; the operation is freed afterwards. */
typedef void (*ngx_payment_op_settled_pt)(ngx_payment_op_t *op);


typedef enum {
    NGX_PAYMENT_OP_QUEUED = 1,     /* in one of the writer's queues */
    NGX_PAYMENT_OP_BATCHED,        /* in op->batch */
    NGX_PAYMENT_OP_COPY,           /* in op->leader's copies */
    NGX_PAYMENT_OP_RIVAL,          /* in op->leader's rivals */
    NGX_PAYMENT_OP_SETTLED
} ngx_payment_op_state_e;


/* What the transaction that is under way has found out about an operation. */

typedef enum {
    NGX_PAYMENT_OP_UNDECIDED = 0,  /* nothing yet, or that it is refused */
    NGX_PAYMENT_OP_APPLIED,        /* the transaction writes it */
    NGX_PAYMENT_OP_FOUND,          /* its key is in the database already */
    NGX_PAYMENT_OP_UNSURE,         /* what was found is perhaps not on disk yet:
                                      it is to be looked up again */
    NGX_PAYMENT_OP_BLOCKED         /* another transaction holds its payment; of
                                      LOOKUP: or may write its key */
} ngx_payment_op_standing_e;


struct ngx_payment_op_s {
    ngx_queue_t                 queue;      /* the one that its state says */
    ngx_payment_op_state_e      state;
    ngx_payment_batch_t        *batch;      /* while BATCHED, else NULL */

    ngx_payment_op_t           *leader;     /* of a COPY or RIVAL, else NULL */
    ngx_payment_op_t           *next_leader;    /* ngx_payment_leaders.c's */
    ngx_queue_t                 copies;     /* of the operation that leads */
    ngx_queue_t                 rivals;
    ngx_uint_t                  followers;  /* in these two */

    void                       *data;       /* NULL: nobody waits any more */
    ngx_payment_op_settled_pt   settled;

    payment_request_t           request;
    payment_outcome_e           outcome;
    payment_fault_t             fault;
    payment_t                   payment;    /* as the answer shows it; of LIST:
                                               the next page is below its id */
    payment_kept_t              kept;       /* of LOOKUP: under its key */
    payment_list_t             *list;       /* of LIST: which payments; from
                                               the heap */
    ngx_str_t                   done;       /* of OPERATIONS and LIST: rendered,
                                               with commas between; from the
                                               heap */
    ngx_uint_t                  done_rows;
    uint32_t                    done_last;  /* the version of the last one */

    u_char                      id_text[PAYMENT_ID_TEXT_LEN];
    u_char                      traceparent[PAYMENT_TRACEPARENT_LEN];
    size_t                      traceparent_len;
    ngx_str_t                   tracestate; /* empty: none; from the heap */

    size_t                      bytes;      /* of memory, while it waits */
    size_t                      answer_bytes;   /* and from its batch on: of
                                               a page, at most */
    int64_t                     now_us;     /* wall clock, of what it does */
    unsigned                    slot;       /* of its merchant */
    ngx_msec_t                  deadline;   /* of the whole operation, and of
                                               its copies */
    uint64_t                    accepted_us;
    uint64_t                    queued_us;  /* for the last time */
    uint64_t                    dispatched_us;
    uint64_t                    settled_us;
    ngx_uint_t                  batch_size; /* 0: never got into one */

    ngx_uint_t                  told;       /* marks of its key's row, see
                                               ngx_payment_seen.h: when it was
                                               told of last, */
    ngx_uint_t                  found;      /* and as it was looked up */
    ngx_uint_t                  order;      /* of arrival, in its batch */
    ngx_payment_op_standing_e   standing;

    unsigned                    sampled:1;  /* its traceparent names a span of
                                               ours: see ngx_payment_span.h */
    unsigned                    leads:1;
    unsigned                    stalled:1;  /* it was BLOCKED, once or more */
    unsigned                    has_id:1;   /* of AUTHORIZE: it was made */
    unsigned                    underway:1; /* of LOOKUP: before the look, an
                                               operation had its key */
    unsigned                    done_more:1;    /* others follow them */
    unsigned                    referred:1; /* its payment has an operation with
                                               its reference */
};


/* NULL: no memory.  The caller fills in request, data, settled, deadline. */
ngx_payment_op_t *ngx_payment_op_create(ngx_log_t *log);
void ngx_payment_op_free(ngx_payment_op_t *op);

/* Nobody waits for the outcome any more; the payment goes on. */
void ngx_payment_op_detach(ngx_payment_op_t *op);

/* Sets an outcome that is a failure, with a sentence for the client. */
void ngx_payment_op_fail(ngx_payment_op_t *op, payment_outcome_e outcome,
    const char *detail);

/* An operation that none follows becomes a COPY or RIVAL of one that has its
 * key. */
void ngx_payment_op_follow(ngx_payment_op_t *op, ngx_payment_op_t *leader);

/* A COPY or RIVAL follows no more. */
void ngx_payment_op_unfollow(ngx_payment_op_t *op);

/* The first copy of an operation, or else its first rival, which leads all the
 * others then; NULL: none follows it. */
ngx_payment_op_t *ngx_payment_op_successor(ngx_payment_op_t *op);

/* Takes the first operation off a list of followers; NULL: there is none. */
ngx_payment_op_t *ngx_payment_op_shift(ngx_queue_t *followers);

/* For qsort() of pointers: by key hash, and among equals by arrival. */
int ngx_payment_op_cmp_keys(const void *one, const void *two);

#endif /* NGX_PAYMENT_OP_H */
