/*
 * One operation on a payment, from the parsed request to its outcome.
 *
 * An operation outlives its HTTP request: when the client goes away, the
 * payment goes on.  It is owned by the writer from submit to settle; the
 * request only holds a pointer, which it gives up with ngx_payment_op_detach().
 */

#ifndef NGX_PAYMENT_OP_H
#define NGX_PAYMENT_OP_H

#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_payment_clock.h"
#include "payment.h"


typedef struct ngx_payment_op_s      ngx_payment_op_t;
typedef struct ngx_payment_batch_s   ngx_payment_batch_t;

/* called once, when outcome is final; frees the operation afterwards */
typedef void (*ngx_payment_op_settled_pt)(ngx_payment_op_t *op);


typedef enum {
    NGX_PAYMENT_OP_NEW = 0,
    NGX_PAYMENT_OP_QUEUED,         /* in the writer's queue */
    NGX_PAYMENT_OP_BATCHED,        /* in a batch, or following one that is */
    NGX_PAYMENT_OP_SETTLED
} ngx_payment_op_state_e;


struct ngx_payment_op_s {
    ngx_queue_t                 queue;
    ngx_payment_op_state_e      state;
    ngx_payment_batch_t        *batch;

    /* the same key, waiting for this operation's outcome */
    ngx_payment_op_t           *followers;

    void                       *data;       /* NULL: nobody waits any more */
    ngx_payment_op_settled_pt   settled;

    payment_request_t           request;
    payment_outcome_e           outcome;
    payment_fault_t             fault;
    payment_t                   payment;    /* as the answer shows it */

    u_char                      id_text[PAYMENT_ID_TEXT_LEN];
    u_char                      traceparent[PAYMENT_TRACEPARENT_LEN];
    size_t                      traceparent_len;

    size_t                      bytes;      /* counted against the bounds */
    int64_t                     now_ms;     /* wall clock at acceptance */
    ngx_msec_t                  deadline;   /* of the whole operation */
    uint64_t                    accepted_us;
    uint64_t                    queued_us;  /* for the last time */
    uint64_t                    dispatched_us;
    uint64_t                    settled_us;
    ngx_uint_t                  batch_size; /* 0: never got into one */

    ngx_uint_t                  order;      /* of arrival, in its batch */
    unsigned                    applied:1;  /* the batch writes it */
    unsigned                    found:1;    /* its key is in the database */
    unsigned                    held:1;     /* its payment is another's now */
    unsigned                    follows:1;  /* is in another's followers */
};


/* NULL: no memory.  The caller fills in request, data, settled, deadline. */
ngx_payment_op_t *ngx_payment_op_create(ngx_log_t *log);
void ngx_payment_op_free(ngx_payment_op_t *op);

#endif /* NGX_PAYMENT_OP_H */
