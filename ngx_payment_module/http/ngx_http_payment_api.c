/*
 * payment_api: from an HTTP request to an operation, and from its outcome to
 * an answer.  Everything that can be said without the database is said here,
 * and in two files that this one calls: ngx_http_payment_route.c knows which
 * operation is asked for, and ngx_http_payment_op.c reads what it is to do.
 *
 * The request and its operation live apart: ctx->op is NULL before the writer
 * has taken the operation and after it was settled; whichever ends first,
 * request or operation, clears the other's pointer.
 */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_module.h"
#include "ngx_http_payment_op.h"
#include "ngx_http_payment_request.h"
#include "ngx_http_payment_route.h"
#include "ngx_http_payment_span.h"
#include "ngx_payment_storm.h"


static ngx_http_payment_ctx_t *ngx_http_payment_api_create_ctx(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_payment_api_not_allowed(ngx_http_request_t *r,
    const char *allow);
static ngx_int_t ngx_http_payment_api_read(ngx_http_request_t *r);
static ngx_int_t ngx_http_payment_api_refuse(ngx_http_request_t *r,
    payment_fault_t *fault);
static void ngx_http_payment_api_body_handler(ngx_http_request_t *r);
static void ngx_http_payment_api_start(ngx_http_request_t *r,
    ngx_str_t *body);
static void ngx_http_payment_api_submit(ngx_http_request_t *r,
    ngx_payment_op_t *op);
static void ngx_http_payment_api_settled(ngx_payment_op_t *op);
static void ngx_http_payment_api_timeout(ngx_event_t *ev);
static void ngx_http_payment_api_cleanup(void *data);
static void ngx_http_payment_api_count(ngx_http_payment_ctx_t *ctx,
    payment_outcome_e outcome);
static ngx_int_t ngx_http_payment_api_fail(ngx_http_request_t *r,
    payment_outcome_e outcome, const char *detail);
static ngx_int_t ngx_http_payment_api_send_fault(ngx_http_request_t *r,
    payment_fault_t *fault, const uint8_t *id);
static ngx_int_t ngx_http_payment_api_send_payment(ngx_http_request_t *r,
    const ngx_payment_op_t *op, ngx_uint_t replayed);
static ngx_int_t ngx_http_payment_api_send_list(ngx_http_request_t *r,
    const ngx_payment_op_t *op);


/*
 * payment_problem: what nginx itself refuses, a rate limit say, is answered by
 * error_page in the words of the API, and counted.  An answer of the API's own
 * that came to error_page was counted before.
 */

ngx_int_t
ngx_http_payment_api_problem_handler(ngx_http_request_t *r)
{
    ngx_str_t                     path, id;
    payment_fault_t               fault;
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    ctx = ngx_http_payment_api_ctx(r);

    if (ctx) {
        ngx_http_set_ctx(r, ctx, ngx_http_payment_module);

    } else {
        ctx = ngx_http_payment_api_create_ctx(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        path = r->uri;
        ngx_http_payment_route_last_words(&path);
        (void) ngx_http_payment_route(ctx, &path, &id);
    }

    /* the status is the code's, whatever brought the request here */

    r->err_status = 0;

    (void) payment_fault_set(&fault, plcf->problem, "", "%s",
                             plcf->problem_detail.data);

    return ngx_http_payment_api_refuse(r, &fault);
}


ngx_int_t
ngx_http_payment_api_handler(ngx_http_request_t *r)
{
    ngx_str_t                      path, id;
    payment_fault_t                fault;
    ngx_http_payment_ctx_t        *ctx;
    ngx_http_payment_main_conf_t  *pmcf;
    uint8_t                        parsed[PAYMENT_ID_SIZE];

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);
    ctx = ngx_http_payment_api_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_payment_route_path(r, &path) != NGX_OK
        || ngx_http_payment_route(ctx, &path, &id) != NGX_OK
        || (ctx->operation == PAYMENT_OPERATIONS && !pmcf->operations))
    {
        (void) payment_fault_set(&fault, PAYMENT_NOT_FOUND, "",
                                 "there is no such resource");
        return ngx_http_payment_api_refuse(r, &fault);
    }

    if (payment_operation_reads(ctx->operation)) {
        if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
            return ngx_http_payment_api_not_allowed(r, "GET, HEAD");
        }

    } else if (r->method != NGX_HTTP_POST) {
        return ngx_http_payment_api_not_allowed(r, "POST");
    }

    if (ngx_http_payment_route_takes_id(ctx->operation)) {

        /* a text that is not a UUID is no payment's id */

        if (!payment_id_parse(parsed, (char *) id.data, id.len)) {
            (void) payment_fault_set(&fault, PAYMENT_NOT_FOUND, "",
                                     "no such payment");
            return ngx_http_payment_api_refuse(r, &fault);
        }

        ngx_memcpy(ctx->id_text, id.data, PAYMENT_ID_TEXT_LEN);
    }

    return ngx_http_payment_api_read(r);
}


static ngx_http_payment_ctx_t *
ngx_http_payment_api_create_ctx(ngx_http_request_t *r)
{
    ngx_http_cleanup_t      *cln;
    ngx_pool_cleanup_t      *pool_cln;
    ngx_http_payment_ctx_t  *ctx;

    pool_cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_payment_ctx_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (pool_cln == NULL || cln == NULL) {
        return NULL;
    }

    ctx = pool_cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_payment_ctx_t));

    /* the pool's cleanup is still there when the request is logged */

    cln->handler = ngx_http_payment_api_cleanup;
    cln->data = ctx;
    pool_cln->handler = ngx_http_payment_api_cleanup;

    ctx->request = r;
    ctx->started_us = ngx_payment_now_us();
    ngx_http_set_ctx(r, ctx, ngx_http_payment_module);

    return ctx;
}


/*
 * error_page and other internal redirects clear the contexts of a request, but
 * the cleanup of its pool still has ours.  The newest one is the first there.
 */

ngx_http_payment_ctx_t *
ngx_http_payment_api_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_payment_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);

    if (ctx || !r->internal) {
        return ctx;
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_payment_api_cleanup) {
            ctx = cln->data;

            if (ctx->request == r) {
                return ctx;
            }
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_payment_api_not_allowed(ngx_http_request_t *r, const char *allow)
{
    payment_fault_t  fault;

    if (ngx_http_payment_answer_header(r, "Allow", allow) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    fault.outcome = PAYMENT_METHOD_NOT_ALLOWED;
    fault.field[0] = '\0';
    (void) ngx_snprintf((u_char *) fault.detail, sizeof(fault.detail),
                        "the method must be %s%Z", allow);

    return ngx_http_payment_api_refuse(r, &fault);
}


/* Takes the body, or does without it, and starts the operation. */

static ngx_int_t
ngx_http_payment_api_read(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_str_t                     none;
    payment_fault_t               fault;
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    if (payment_operation_reads(ctx->operation)) {
        if (ngx_http_payment_request_discard(r, &fault) != NGX_OK) {
            return ngx_http_payment_api_send_fault(r, &fault, NULL);
        }

        r->main->count++;
        ngx_str_null(&none);
        ngx_http_payment_api_start(r, &none);

        return NGX_DONE;
    }

    if (ngx_http_payment_request_json(r, &fault) != NGX_OK) {
        return ngx_http_payment_api_refuse(r, &fault);
    }

    if (r->headers_in.content_length_n > (off_t) plcf->max_body_size) {
        (void) payment_fault_set(&fault, PAYMENT_TOO_LARGE, "",
                                 "the body is too large");
        return ngx_http_payment_api_refuse(r, &fault);
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r,
                                           ngx_http_payment_api_body_handler);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


/* Answers with a fault before the body was read. */

static ngx_int_t
ngx_http_payment_api_refuse(ngx_http_request_t *r, payment_fault_t *fault)
{
    /* a malformed body is the fault that the client has to know of */

    (void) ngx_http_payment_request_discard(r, fault);

    return ngx_http_payment_api_send_fault(r, fault, NULL);
}


static void
ngx_http_payment_api_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_str_t                     body;
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    rc = ngx_http_payment_request_body(r, plcf->max_body_size, &body);

    if (rc == NGX_OK) {
        ngx_http_payment_api_start(r, &body);
        return;
    }

    ngx_http_finalize_request(r, rc == NGX_DECLINED
                                 ? ngx_http_payment_api_fail(r,
                                                     PAYMENT_TOO_LARGE,
                                                     "the body is too large")
                                 : NGX_HTTP_INTERNAL_SERVER_ERROR);
}


/* A complete request becomes an operation, or is answered. */

static void
ngx_http_payment_api_start(ngx_http_request_t *r, ngx_str_t *body)
{
    payment_fault_t          fault;
    ngx_payment_op_t        *op;
    ngx_http_payment_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);

    op = ngx_payment_op_create(r->connection->log);
    if (op == NULL) {
        ngx_http_finalize_request(r, ngx_http_payment_api_fail(r,
                                                     PAYMENT_UNAVAILABLE,
                                                     "there is no memory "
                                                     "left"));
        return;
    }

    ngx_memzero(&fault, sizeof(payment_fault_t));

    op->request.operation = ctx->operation;

    if (ngx_http_payment_route_takes_id(ctx->operation)) {
        (void) payment_id_parse(op->request.payment_id, (char *) ctx->id_text,
                                PAYMENT_ID_TEXT_LEN);
    }

    if (ngx_http_payment_op_parse(r, op, body, &fault) != NGX_OK) {
        ngx_payment_op_free(op);
        ngx_http_finalize_request(r,
                                  ngx_http_payment_api_send_fault(r, &fault,
                                                                  NULL));
        return;
    }

    ngx_http_payment_api_submit(r, op);
}


static void
ngx_http_payment_api_submit(ngx_http_request_t *r, ngx_payment_op_t *op)
{
    ngx_int_t                      rc;
    ngx_http_payment_ctx_t        *ctx;
    ngx_http_payment_loc_conf_t   *plcf;
    ngx_http_payment_main_conf_t  *pmcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);

    op->now_us = (int64_t) ngx_payment_unix_us();
    op->deadline = ngx_current_msec + plcf->timeout;
    op->slot = payment_id_merchant_slot(op->request.merchant,
                                        op->request.merchant_len);

    ctx->shard = pmcf->slots[op->slot];
    ctx->writer = pmcf->writers[ctx->shard->index];

    rc = ngx_payment_writer_submit(ctx->writer, op);

    if (rc != NGX_OK) {
        ngx_payment_op_free(op);
        ngx_http_finalize_request(r, ngx_http_payment_api_fail(r,
                                     PAYMENT_UNAVAILABLE,
                                     rc == NGX_BUSY
                                     ? "too much is waiting for the database"
                                     : "the database is away"));
        return;
    }

    op->data = ctx;
    op->settled = ngx_http_payment_api_settled;
    ctx->op = op;

    ctx->timer.handler = ngx_http_payment_api_timeout;
    ctx->timer.data = ctx;
    ctx->timer.log = r->connection->log;
    ngx_add_timer(&ctx->timer, plcf->timeout);

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
}


/* The writer has settled the operation, and frees it when this returns. */

static void
ngx_http_payment_api_settled(ngx_payment_op_t *op)
{
    ngx_int_t                     rc;
    ngx_connection_t             *c;
    ngx_http_request_t           *r;
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;

    ctx = op->data;
    r = ctx->request;
    c = r->connection;

    ctx->op = NULL;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (op->dispatched_us) {
        ctx->queue_us = op->dispatched_us - op->accepted_us;
        ctx->commit_us = op->settled_us - op->dispatched_us;
        ctx->batch_size = op->batch_size;
    }

    ctx->outcome = op->outcome;
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    switch (op->outcome) {

    case PAYMENT_OK:
        rc = op->list ? ngx_http_payment_api_send_list(r, op)
                      : ngx_http_payment_api_send_payment(r, op, 0);
        break;

    case PAYMENT_REPLAYED:
        if (plcf->replay == NGX_HTTP_PAYMENT_REPLAY) {
            rc = ngx_http_payment_api_send_payment(r, op, 1);
            break;
        }

        (void) payment_fault_set(&op->fault, PAYMENT_DUPLICATE, "",
                                 "the idempotency key was used before");
        rc = ngx_http_payment_api_send_fault(r, &op->fault, op->payment.id);
        break;

    case PAYMENT_CAPTURE_CONFLICT:
    case PAYMENT_REFUND_CONFLICT:
    case PAYMENT_VOID_CONFLICT:
    case PAYMENT_EXPIRED:
        rc = ngx_http_payment_api_send_fault(r, &op->fault, op->payment.id);
        break;

    default:
        rc = ngx_http_payment_api_send_fault(r, &op->fault, NULL);
        break;
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/*
 * After payment_timeout an operation that was not begun is taken back; of one
 * that was begun nobody knows the outcome, and the client is told so.
 */

static void
ngx_http_payment_api_timeout(ngx_event_t *ev)
{
    ngx_int_t                    rc;
    const char                  *note;
    ngx_connection_t            *c;
    ngx_payment_op_t            *op;
    ngx_http_request_t          *r;
    ngx_http_payment_ctx_t      *ctx;
    static ngx_payment_storm_t   storm;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;
    op = ctx->op;

    ctx->op = NULL;

    if (ctx->operation == PAYMENT_LOOKUP) {
        (void) ngx_payment_writer_cancel(ctx->writer, op);
        rc = ngx_http_payment_api_fail(r, PAYMENT_UNAVAILABLE,
                                   "the database did not answer in time, or a "
                                   "request with the idempotency key is being "
                                   "done");

    } else if (ngx_payment_writer_cancel(ctx->writer, op) == NGX_OK) {
        rc = ngx_http_payment_api_fail(r, PAYMENT_UNAVAILABLE,
                                   "the database did not get to it in time");

    } else if (payment_operation_reads(ctx->operation)) {
        rc = ngx_http_payment_api_fail(r, PAYMENT_UNAVAILABLE,
                                   "the database did not answer in time");

    } else {
        note = ngx_payment_storm_note(&storm, 1 + ctx->shard->index);

        if (note) {
            ngx_log_error(NGX_LOG_ERR, c->log, 0,
                          "payment: no outcome of %s within payment_timeout, "
                          "shard \"%V\"%s",
                          payment_name_operation(ctx->operation),
                          &ctx->shard->name, note);
        }

        rc = ngx_http_payment_api_fail(r, PAYMENT_OUTCOME_UNKNOWN,
                                   "the database did not answer in time: "
                                   "repeat the request with the same "
                                   "idempotency key");
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/* The request ends.  Its operation, if there is one yet, goes on without it. */

static void
ngx_http_payment_api_cleanup(void *data)
{
    ngx_http_payment_ctx_t *ctx = data;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (ctx->op) {
        ngx_payment_op_detach(ctx->op);
        ctx->op = NULL;
    }

    ngx_http_payment_span_end(ctx, NULL);
}


/* Counts a request, once, when its outcome is known. */

static void
ngx_http_payment_api_count(ngx_http_payment_ctx_t *ctx,
    payment_outcome_e outcome)
{
    ngx_payment_stats_t           *stats;
    ngx_http_payment_main_conf_t  *pmcf;

    if (ctx->done) {
        return;
    }

    ctx->done = 1;
    ctx->outcome = outcome;

    pmcf = ngx_http_get_module_main_conf(ctx->request,
                                         ngx_http_payment_module);
    stats = pmcf->writer.stats;

    (void) ngx_atomic_fetch_add(&stats->requests[ctx->operation][outcome], 1);

    if (ctx->batch_size) {
        ngx_payment_histogram_add(&stats->request_time[ctx->operation],
                                  ngx_payment_now_us() - ctx->started_us);
        ngx_payment_histogram_add(&stats->queue_time, ctx->queue_us);
    }

    ngx_http_payment_span_end(ctx, payment_name_error(outcome));
}


static ngx_int_t
ngx_http_payment_api_fail(ngx_http_request_t *r, payment_outcome_e outcome,
    const char *detail)
{
    payment_fault_t  fault;

    (void) payment_fault_set(&fault, outcome, "", "%s", detail);

    return ngx_http_payment_api_send_fault(r, &fault, NULL);
}


static ngx_int_t
ngx_http_payment_api_send_fault(ngx_http_request_t *r, payment_fault_t *fault,
    const uint8_t *id)
{
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    /* 401 asks for a proof of another kind, which no certificate can be */

    if (fault->outcome == PAYMENT_UNAUTHORIZED && plcf->challenge.len == 0) {
        fault->outcome = PAYMENT_FORBIDDEN;
    }

    if (id) {
        payment_id_format((char *) ctx->id_text, id);
        ctx->has_id = 1;
    }

    ngx_http_payment_api_count(ctx, fault->outcome);

    if (ngx_http_payment_answer_no_store(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_payment_answer_fault(r, fault, id, plcf->intercept_errors);
}


static ngx_int_t
ngx_http_payment_api_send_payment(ngx_http_request_t *r,
    const ngx_payment_op_t *op, ngx_uint_t replayed)
{
    char                     *body;
    size_t                    len, size;
    const payment_t          *p;
    ngx_http_payment_ctx_t   *ctx;
    const payment_request_t  *request;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);

    ctx->status = op->payment.status;
    ctx->has_id = 1;
    payment_id_format((char *) ctx->id_text, op->payment.id);

    ngx_http_payment_api_count(ctx, replayed ? PAYMENT_REPLAYED : PAYMENT_OK);

    if (ngx_http_payment_answer_no_store(r) != NGX_OK
        || (replayed
            && ngx_http_payment_answer_header(r, "Idempotent-Replayed", "true")
               != NGX_OK))
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = &op->payment;
    request = &op->request;
    size = payment_render_size(p, request) + op->done.len;

    body = ngx_pnalloc(r->pool, size);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    switch (ctx->operation) {

    case PAYMENT_LOOKUP:
        len = payment_render_found(body, size, p, request, &op->kept);
        break;

    case PAYMENT_OPERATIONS:
        len = payment_render_operations(body, size, p, (char *) op->done.data,
                                        op->done.len,
                                        op->done_more ? op->done_last : 0);
        break;

    default:
        len = payment_render_response(body, size, p, request);
    }

    return ngx_http_payment_answer_bytes(r, NGX_HTTP_OK,
                                         &ngx_http_payment_answer_json,
                                         (u_char *) body, len);
}


static ngx_int_t
ngx_http_payment_api_send_list(ngx_http_request_t *r,
    const ngx_payment_op_t *op)
{
    char                    *body;
    size_t                   len, size;
    ngx_http_payment_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);

    ngx_http_payment_api_count(ctx, PAYMENT_OK);

    size = PAYMENT_FIXED_SIZE + op->done.len + 6 * op->request.merchant_len;

    body = ngx_pnalloc(r->pool, size);

    if (body == NULL || ngx_http_payment_answer_no_store(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = payment_render_list(body, size, &op->request, op->list,
                              (char *) op->done.data, op->done.len,
                              op->done_more ? op->payment.id : NULL);

    return ngx_http_payment_answer_bytes(r, NGX_HTTP_OK,
                                         &ngx_http_payment_answer_json,
                                         (u_char *) body, len);
}
