/*
 * payment_api: from an HTTP request to an operation, and from its outcome to
 * an answer.  Everything that can be said without the database is said here.
 *
 * The request and its operation live apart: ctx->op is NULL before the writer
 * has taken the operation and after it was settled; whichever ends first,
 * request or operation, clears the other's pointer.
 */

#include "ngx_http_payment_module.h"

#include <sys/random.h>


#define NGX_HTTP_PAYMENT_RETRY_AFTER  "1"


static ngx_int_t ngx_http_payment_route(ngx_http_request_t *r,
    ngx_str_t *id, const char **allow);
static ngx_int_t ngx_http_payment_content_type(ngx_http_request_t *r);
static void ngx_http_payment_discard(ngx_http_request_t *r);
static void ngx_http_payment_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_payment_body(ngx_http_request_t *r, ngx_str_t *body);
static void ngx_http_payment_start(ngx_http_request_t *r, ngx_str_t *body);
static ngx_int_t ngx_http_payment_parse(ngx_http_request_t *r,
    ngx_payment_op_t *op, ngx_str_t *body, payment_fault_t *fault);
static ngx_int_t ngx_http_payment_query_merchant(ngx_http_request_t *r,
    payment_request_t *request, payment_fault_t *fault);
static ngx_int_t ngx_http_payment_header(ngx_http_request_t *r,
    const char *name, size_t len, ngx_str_t *value);
static void ngx_http_payment_traceparent(ngx_http_request_t *r,
    ngx_payment_op_t *op);
static ngx_int_t ngx_http_payment_random(u_char *p, size_t len);
static void ngx_http_payment_submit(ngx_http_request_t *r,
    ngx_payment_op_t *op);
static void ngx_http_payment_settled(ngx_payment_op_t *op);
static void ngx_http_payment_timeout(ngx_event_t *ev);
static void ngx_http_payment_cleanup(void *data);
static void ngx_http_payment_count(ngx_http_request_t *r,
    payment_outcome_e outcome);
static ngx_int_t ngx_http_payment_fail(ngx_http_request_t *r,
    payment_outcome_e outcome, const char *detail);
static ngx_int_t ngx_http_payment_send_fault(ngx_http_request_t *r,
    payment_fault_t *fault, const uint8_t *id, const char *allow);
static ngx_int_t ngx_http_payment_send_payment(ngx_http_request_t *r,
    const payment_t *payment, ngx_uint_t replayed);
static ngx_int_t ngx_http_payment_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, u_char *body, size_t len);
static ngx_int_t ngx_http_payment_add_header(ngx_http_request_t *r,
    const char *name, const char *value);


static ngx_str_t  ngx_http_payment_json = ngx_string("application/json");
static ngx_str_t  ngx_http_payment_problem_json =
    ngx_string("application/problem+json");


ngx_int_t
ngx_http_payment_api_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_str_t                     id;
    const char                   *allow;
    payment_fault_t               fault;
    ngx_http_cleanup_t           *cln;
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;
    uint8_t                       parsed[PAYMENT_ID_SIZE];

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_payment_ctx_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (ctx == NULL || cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_payment_cleanup;
    cln->data = ctx;

    ctx->request = r;
    ctx->started_us = ngx_payment_now_us();
    ngx_http_set_ctx(r, ctx, ngx_http_payment_module);

    rc = ngx_http_payment_route(r, &id, &allow);

    if (rc == NGX_DECLINED) {
        ngx_http_payment_discard(r);
        return ngx_http_payment_fail(r, PAYMENT_NOT_FOUND,
                                     "there is no such resource");
    }

    if (allow) {
        ngx_http_payment_discard(r);

        ngx_memzero(&fault, sizeof(payment_fault_t));
        fault.outcome = PAYMENT_METHOD_NOT_ALLOWED;
        (void) ngx_snprintf((u_char *) fault.detail, sizeof(fault.detail),
                            "the method must be %s%Z", allow);

        return ngx_http_payment_send_fault(r, &fault, NULL, allow);
    }

    if (ctx->operation != PAYMENT_AUTHORIZE) {

        /* what is no id is no payment's id */

        if (!payment_id_parse(parsed, (char *) id.data, id.len)) {
            ngx_http_payment_discard(r);
            return ngx_http_payment_fail(r, PAYMENT_NOT_FOUND,
                                         "no such payment");
        }

        ngx_memcpy(ctx->id_text, id.data, PAYMENT_ID_TEXT_LEN);
    }

    if (ctx->operation == PAYMENT_GET) {
        rc = ngx_http_discard_request_body(r);
        if (rc != NGX_OK) {
            return rc;
        }

        r->main->count++;
        ngx_str_null(&id);
        ngx_http_payment_start(r, &id);

        return NGX_DONE;
    }

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    if (ngx_http_payment_content_type(r) != NGX_OK) {
        ngx_http_payment_discard(r);
        return ngx_http_payment_fail(r, PAYMENT_UNSUPPORTED_TYPE,
                                     "the content type must be "
                                     "application/json");
    }

    if (r->headers_in.content_length_n > (off_t) plcf->max_body_size) {
        ngx_http_payment_discard(r);
        return ngx_http_payment_fail(r, PAYMENT_TOO_LARGE,
                                     "the body is too large");
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_payment_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


/*
 * What follows the location's prefix says what is to be done.  NGX_DECLINED: no
 * such thing.  *allow is set when it is there, but not for this method.
 */

static ngx_int_t
ngx_http_payment_route(ngx_http_request_t *r, ngx_str_t *id,
    const char **allow)
{
    size_t                     skip;
    u_char                    *p, *last, *slash;
    ngx_uint_t                 i;
    ngx_str_t                  head, tail;
    ngx_http_payment_ctx_t    *ctx;
    ngx_http_core_loc_conf_t  *clcf;

    static const struct {
        ngx_str_t             name;
        payment_operation_e   operation;
    } verbs[] = {
        { ngx_string("capture"), PAYMENT_CAPTURE },
        { ngx_string("refund"), PAYMENT_REFUND },
        { ngx_string("void"), PAYMENT_VOID }
    };

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    *allow = NULL;
    skip = 0;

    if (!clcf->exact_match && !clcf->named && !clcf->noname
#if (NGX_PCRE)
        && clcf->regex == NULL
#endif
        && clcf->name.len <= r->uri.len)
    {
        skip = clcf->name.len;
    }

    p = r->uri.data + skip;
    last = r->uri.data + r->uri.len;

    if (p < last && *p == '/') {
        p++;

    } else if (skip && p < last && p[-1] != '/') {

        /* the prefix ends within a word: /api/payments-old is not ours */

        return NGX_DECLINED;
    }

    if (skip == 0) {

        /* a regular expression, say: the last words of the path count */

        tail.data = p;

        for (slash = last; slash > p; slash--) {
            if (slash[-1] == '/' && slash != last) {
                tail.data = slash;
                break;
            }
        }

        for (slash = tail.data - 1; slash > p; slash--) {
            if (slash[-1] == '/') {
                break;
            }
        }

        head.data = ngx_max(slash, p);
        p = tail.data;

        for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
            if ((size_t) (tail.data - head.data) == verbs[i].name.len + 1
                && ngx_strncmp(head.data, verbs[i].name.data,
                               verbs[i].name.len) == 0)
            {
                p = head.data;
            }
        }
    }

    slash = ngx_strlchr(p, last, '/');

    if (slash == NULL) {
        head.data = p;
        head.len = last - p;

        if (head.len == 0) {
            return NGX_DECLINED;
        }

        if (head.len == sizeof("authorize") - 1
            && ngx_strncmp(head.data, "authorize", head.len) == 0)
        {
            ctx->operation = PAYMENT_AUTHORIZE;
            ngx_str_null(id);

            if (r->method != NGX_HTTP_POST) {
                *allow = "POST";
            }

            return NGX_OK;
        }

        ctx->operation = PAYMENT_GET;
        *id = head;

        if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
            *allow = "GET, HEAD";
        }

        return NGX_OK;
    }

    head.data = p;
    head.len = slash - p;
    tail.data = slash + 1;
    tail.len = last - tail.data;

    for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {

        if (head.len != verbs[i].name.len
            || ngx_strncmp(head.data, verbs[i].name.data, head.len) != 0)
        {
            continue;
        }

        ctx->operation = verbs[i].operation;
        *id = tail;

        if (r->method != NGX_HTTP_POST) {
            *allow = "POST";
        }

        return NGX_OK;
    }

    return NGX_DECLINED;
}


/* application/json, with or without parameters; none at all with no body */

static ngx_int_t
ngx_http_payment_content_type(ngx_http_request_t *r)
{
    size_t      len;
    ngx_str_t  *type;

    if (r->headers_in.content_type == NULL) {
        return (r->headers_in.content_length_n > 0 || r->headers_in.chunked)
               ? NGX_ERROR : NGX_OK;
    }

    type = &r->headers_in.content_type->value;
    len = ngx_http_payment_json.len;

    if (type->len < len
        || ngx_strncasecmp(type->data, ngx_http_payment_json.data, len) != 0)
    {
        return NGX_ERROR;
    }

    if (type->len > len && type->data[len] != ';' && type->data[len] != ' '
        && type->data[len] != '\t')
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The body of a request that is refused.  Who asks before sending it, with
 * Expect: 100-continue, is told at once; as nobody knows then whether it comes
 * all the same, nothing that follows can be taken for the next request.
 */

static void
ngx_http_payment_discard(ngx_http_request_t *r)
{
    if (r->headers_in.expect && !r->expect_tested) {
        r->expect_tested = 1;
        r->keepalive = 0;
    }

    (void) ngx_http_discard_request_body(r);
}


static void
ngx_http_payment_body_handler(ngx_http_request_t *r)
{
    ngx_int_t   rc;
    ngx_str_t   body;

    rc = ngx_http_payment_body(r, &body);

    if (rc == NGX_DECLINED) {
        ngx_http_finalize_request(r,
                                  ngx_http_payment_fail(r, PAYMENT_TOO_LARGE,
                                                    "the body is too large"));
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_payment_start(r, &body);
}


/* The body as one string; without a copy if it is in one buffer. */

static ngx_int_t
ngx_http_payment_body(ngx_http_request_t *r, ngx_str_t *body)
{
    off_t                         size;
    size_t                        n;
    u_char                       *p;
    ngx_buf_t                    *b;
    ngx_chain_t                  *cl;
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    ngx_str_null(body);

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    size = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    if (size > (off_t) plcf->max_body_size) {
        return NGX_DECLINED;
    }

    cl = r->request_body->bufs;

    if (cl->next == NULL && ngx_buf_in_memory(cl->buf)) {
        body->data = cl->buf->pos;
        body->len = (size_t) size;
        return NGX_OK;
    }

    body->data = ngx_pnalloc(r->pool, (size_t) size + 1);
    if (body->data == NULL) {
        return NGX_ERROR;
    }

    p = body->data;

    for ( /* void */ ; cl; cl = cl->next) {
        b = cl->buf;
        n = (size_t) ngx_buf_size(b);

        if (n == 0) {

            /* the mark at the end, where the length is 0 or in chunks: it is
             * neither in memory nor in a file */

            continue;
        }

        if (ngx_buf_in_memory(b)) {
            p = ngx_cpymem(p, b->pos, n);
            continue;
        }

        if (ngx_read_file(b->file, p, n, b->file_pos) != (ssize_t) n) {
            return NGX_ERROR;
        }

        p += n;
    }

    body->len = p - body->data;

    return NGX_OK;
}


/* A complete request becomes an operation, or is answered. */

static void
ngx_http_payment_start(ngx_http_request_t *r, ngx_str_t *body)
{
    payment_fault_t          fault;
    ngx_payment_op_t        *op;
    ngx_http_payment_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);

    op = ngx_payment_op_create(r->connection->log);
    if (op == NULL) {
        ngx_http_finalize_request(r,
                                  ngx_http_payment_fail(r, PAYMENT_UNAVAILABLE,
                                                        "out of memory"));
        return;
    }

    ngx_memzero(&fault, sizeof(payment_fault_t));

    op->request.operation = ctx->operation;

    if (ctx->operation != PAYMENT_AUTHORIZE) {
        (void) payment_id_parse(op->request.payment_id, (char *) ctx->id_text,
                                PAYMENT_ID_TEXT_LEN);
    }

    if (ngx_http_payment_parse(r, op, body, &fault) != NGX_OK) {
        ngx_payment_op_free(op);
        ngx_http_finalize_request(r, ngx_http_payment_send_fault(r, &fault,
                                                                 NULL, NULL));
        return;
    }

    ngx_http_payment_submit(r, op);
}


static ngx_int_t
ngx_http_payment_parse(ngx_http_request_t *r, ngx_payment_op_t *op,
    ngx_str_t *body, payment_fault_t *fault)
{
    ngx_str_t                     key, identity;
    payment_request_t            *request;
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    request = &op->request;

    ngx_str_null(&identity);

    if (plcf->merchant
        && ngx_http_complex_value(r, plcf->merchant, &identity) != NGX_OK)
    {
        fault->outcome = PAYMENT_UNAVAILABLE;
        return NGX_ERROR;
    }

    if (plcf->merchant && identity.data == NULL) {
        identity.data = (u_char *) "";
    }

    if (ngx_http_payment_header(r, "idempotency-key",
                                sizeof("idempotency-key") - 1, &key)
        == NGX_DECLINED)
    {
        /* several headers are what a comma would make of one: malformed */

        ngx_str_set(&key, ",");
    }

    /* who nobody knows is told that, and not what is wrong with the query */

    if (request->operation == PAYMENT_GET
        && (identity.data == NULL
            || payment_request_merchant_valid((char *) identity.data,
                                              identity.len))
        && ngx_http_payment_query_merchant(r, request, fault) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (payment_request_parse(request, &plcf->rules, (char *) body->data,
                              body->len, (char *) key.data, key.len,
                              (char *) identity.data, identity.len, fault)
        != PAYMENT_OK)
    {
        return NGX_ERROR;
    }

    /* an operation without a key has one all the same, to be found by */

    if (!request->has_key
        && ngx_http_payment_random(request->key_hash, PAYMENT_KEY_HASH_SIZE)
           != NGX_OK)
    {
        fault->outcome = PAYMENT_UNAVAILABLE;
        return NGX_ERROR;
    }

    ngx_http_payment_traceparent(r, op);

    op->bytes = sizeof(ngx_payment_op_t) + request->metadata_len;

    return NGX_OK;
}


/* GET ..?merchantId=..: who asks */

static ngx_int_t
ngx_http_payment_query_merchant(ngx_http_request_t *r,
    payment_request_t *request, payment_fault_t *fault)
{
    u_char     *dst, *src, *p;
    ngx_str_t   value;

    request->merchant_len = 0;

    if (ngx_http_arg(r, (u_char *) "merchantId", sizeof("merchantId") - 1,
                     &value)
        != NGX_OK)
    {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, value.len + 1);
    if (p == NULL) {
        fault->outcome = PAYMENT_UNAVAILABLE;
        return NGX_ERROR;
    }

    /* a query is form-encoded: a plus is a space, unless it was %2B */

    for (src = value.data, dst = p; src < value.data + value.len; src++) {
        *dst++ = (*src == '+') ? ' ' : *src;
    }

    src = p;
    dst = p;
    ngx_unescape_uri(&dst, &src, value.len, 0);

    if (!payment_request_merchant_valid((char *) p, dst - p)) {
        fault->outcome = PAYMENT_INVALID;
        (void) ngx_cpystrn((u_char *) fault->field, (u_char *) "merchantId",
                           sizeof(fault->field));
        (void) ngx_cpystrn((u_char *) fault->detail, (u_char *)
                           "merchantId must be 1 to 32 characters of UTF-8 "
                           "without control characters",
                           sizeof(fault->detail));
        return NGX_ERROR;
    }

    request->merchant_len = dst - p;
    ngx_memcpy(request->merchant, p, request->merchant_len);

    return NGX_OK;
}


/* NGX_OK: value, or a null string; NGX_DECLINED: more than one */

static ngx_int_t
ngx_http_payment_header(ngx_http_request_t *r, const char *name, size_t len,
    ngx_str_t *value)
{
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    ngx_str_null(value);
    n = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (header[i].key.len == len
                && ngx_strncasecmp(header[i].key.data, (u_char *) name, len)
                   == 0)
            {
                *value = header[i].value;
                n++;
            }
        }
    }

    return n > 1 ? NGX_DECLINED : NGX_OK;
}


/* W3C trace context, version 00: passed on to the event if well-formed */

static void
ngx_http_payment_traceparent(ngx_http_request_t *r, ngx_payment_op_t *op)
{
    u_char      c;
    ngx_str_t   value;
    ngx_uint_t  i;

    if (ngx_http_payment_header(r, "traceparent", sizeof("traceparent") - 1,
                                &value)
        != NGX_OK
        || value.len != PAYMENT_TRACEPARENT_LEN)
    {
        return;
    }

    for (i = 0; i < PAYMENT_TRACEPARENT_LEN; i++) {
        c = value.data[i];

        if (i == 2 || i == 35 || i == 52) {
            if (c != '-') {
                return;
            }

        } else if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return;
        }
    }

    ngx_memcpy(op->traceparent, value.data, PAYMENT_TRACEPARENT_LEN);
    op->traceparent_len = PAYMENT_TRACEPARENT_LEN;
}


/* Random bytes from the kernel, fetched by the page. */

static ngx_int_t
ngx_http_payment_random(u_char *p, size_t len)
{
    ssize_t        n;
    static u_char  pool[4096];
    static size_t  left;

    if (left < len) {
        do {
            n = getrandom(pool, sizeof(pool), 0);
        } while (n == -1 && ngx_errno == NGX_EINTR);

        if (n < (ssize_t) len) {
            return NGX_ERROR;
        }

        left = (size_t) n;
    }

    left -= len;
    ngx_memcpy(p, pool + left, len);
    ngx_memzero(pool + left, len);

    return NGX_OK;
}


static void
ngx_http_payment_submit(ngx_http_request_t *r, ngx_payment_op_t *op)
{
    int64_t                        now_us;
    unsigned                       slot;
    ngx_int_t                      rc;
    ngx_http_payment_ctx_t        *ctx;
    ngx_http_payment_loc_conf_t   *plcf;
    ngx_http_payment_main_conf_t  *pmcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);

    now_us = (int64_t) ngx_payment_unix_us();
    op->now_ms = now_us / 1000;
    op->deadline = ngx_current_msec + plcf->timeout;
    slot = payment_id_merchant_slot(op->request.merchant,
                                    op->request.merchant_len);

    if (op->request.operation == PAYMENT_AUTHORIZE) {
        payment_id_make(op->request.payment_id, now_us, slot,
                        op->request.key_hash);
    }

    ctx->shard = pmcf->slots[slot];
    ctx->writer = pmcf->writers[ctx->shard->index];

    rc = ngx_payment_writer_submit(ctx->writer, op);

    if (rc != NGX_OK) {
        ngx_payment_op_free(op);
        ngx_http_finalize_request(r, ngx_http_payment_fail(r,
                                     PAYMENT_UNAVAILABLE,
                                     rc == NGX_BUSY
                                     ? "too much is waiting for the database"
                                     : "the database is away"));
        return;
    }

    op->data = ctx;
    op->settled = ngx_http_payment_settled;
    ctx->op = op;

    ctx->timer.handler = ngx_http_payment_timeout;
    ctx->timer.data = ctx;
    ctx->timer.log = r->connection->log;
    ngx_add_timer(&ctx->timer, plcf->timeout);

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
}


/* The writer is done with it, and frees it when we return. */

static void
ngx_http_payment_settled(ngx_payment_op_t *op)
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
        rc = ngx_http_payment_send_payment(r, &op->payment, 0);
        break;

    case PAYMENT_REPLAYED:
        if (plcf->replay == NGX_HTTP_PAYMENT_REPLAY) {
            rc = ngx_http_payment_send_payment(r, &op->payment, 1);
            break;
        }

        op->fault.outcome = PAYMENT_DUPLICATE;
        op->fault.field[0] = '\0';
        (void) ngx_cpystrn((u_char *) op->fault.detail, (u_char *)
                           "the idempotency key was used before",
                           sizeof(op->fault.detail));
        rc = ngx_http_payment_send_fault(r, &op->fault, op->payment.id, NULL);
        break;

    case PAYMENT_CAPTURE_CONFLICT:
    case PAYMENT_REFUND_CONFLICT:
    case PAYMENT_VOID_CONFLICT:
        rc = ngx_http_payment_send_fault(r, &op->fault, op->payment.id, NULL);
        break;

    default:
        rc = ngx_http_payment_send_fault(r, &op->fault, NULL, NULL);
        break;
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/* payment_timeout: taken back if it was not begun, else honestly unknown */

static void
ngx_http_payment_timeout(ngx_event_t *ev)
{
    ngx_int_t                rc;
    ngx_connection_t        *c;
    ngx_payment_op_t        *op;
    ngx_http_request_t      *r;
    ngx_http_payment_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;
    op = ctx->op;

    ctx->op = NULL;

    if (ngx_payment_writer_cancel(ctx->writer, op) == NGX_OK) {
        rc = ngx_http_payment_fail(r, PAYMENT_UNAVAILABLE,
                                   "the database did not get to it in time");

    } else if (ctx->operation == PAYMENT_GET) {
        rc = ngx_http_payment_fail(r, PAYMENT_UNAVAILABLE,
                                   "the database did not answer in time");

    } else {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "payment: no outcome of %s within payment_timeout, "
                      "shard \"%V\"",
                      payment_name_operation(ctx->operation),
                      &ctx->shard->name);

        rc = ngx_http_payment_fail(r, PAYMENT_OUTCOME_UNKNOWN,
                                   "the database did not answer in time: "
                                   "repeat the request with the same "
                                   "idempotency key");
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


/* The request ends before its operation: the payment goes on. */

static void
ngx_http_payment_cleanup(void *data)
{
    ngx_http_payment_ctx_t *ctx = data;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (ctx->op) {
        ngx_payment_op_detach(ctx->op);
        ctx->op = NULL;
    }
}


/* Once a request, when its outcome is known. */

static void
ngx_http_payment_count(ngx_http_request_t *r, payment_outcome_e outcome)
{
    ngx_payment_stats_t           *stats;
    ngx_http_payment_ctx_t        *ctx;
    ngx_http_payment_main_conf_t  *pmcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);
    stats = pmcf->writer.stats;

    if (ctx->done) {
        return;
    }

    ctx->done = 1;
    ctx->outcome = outcome;

    (void) ngx_atomic_fetch_add(&stats->requests[ctx->operation][outcome], 1);

    if (ctx->batch_size) {
        ngx_payment_histogram_add(&stats->request_time,
                                  ngx_payment_now_us() - ctx->started_us);
        ngx_payment_histogram_add(&stats->queue_time, ctx->queue_us);
    }
}


static ngx_int_t
ngx_http_payment_fail(ngx_http_request_t *r, payment_outcome_e outcome,
    const char *detail)
{
    payment_fault_t  fault;

    fault.outcome = outcome;
    fault.field[0] = '\0';
    (void) ngx_cpystrn((u_char *) fault.detail, (u_char *) detail,
                       sizeof(fault.detail));

    return ngx_http_payment_send_fault(r, &fault, NULL, NULL);
}


static ngx_int_t
ngx_http_payment_send_fault(ngx_http_request_t *r, payment_fault_t *fault,
    const uint8_t *id, const char *allow)
{
    size_t                        len;
    u_char                       *body;
    ngx_int_t                     rc;
    const payment_error_t        *error;
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    error = payment_name_error(fault->outcome);

    ngx_http_payment_count(r, fault->outcome);

    if (id) {
        payment_id_format((char *) ctx->id_text, id);
        ctx->has_id = 1;
    }

    rc = NGX_OK;

    if (allow) {
        rc = ngx_http_payment_add_header(r, "Allow", allow);
    }

    if (fault->outcome == PAYMENT_UNAVAILABLE
        || fault->outcome == PAYMENT_OUTCOME_UNKNOWN
        || fault->outcome == PAYMENT_RATE_LIMITED)
    {
        rc = ngx_http_payment_add_header(r, "Retry-After",
                                         NGX_HTTP_PAYMENT_RETRY_AFTER);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (plcf->intercept_errors) {
        return error->status;
    }

    body = ngx_pnalloc(r->pool, PAYMENT_PROBLEM_SIZE);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = payment_render_problem((char *) body, PAYMENT_PROBLEM_SIZE, fault,
                                 id);

    return ngx_http_payment_send(r, error->status,
                                 &ngx_http_payment_problem_json, body, len);
}


static ngx_int_t
ngx_http_payment_send_payment(ngx_http_request_t *r, const payment_t *payment,
    ngx_uint_t replayed)
{
    size_t                   len;
    u_char                  *body;
    ngx_http_payment_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);

    ngx_http_payment_count(r, replayed ? PAYMENT_REPLAYED : PAYMENT_OK);

    ctx->status = payment->status;
    ctx->has_id = 1;
    payment_id_format((char *) ctx->id_text, payment->id);

    if (replayed
        && ngx_http_payment_add_header(r, "Idempotent-Replayed", "true")
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body = ngx_pnalloc(r->pool, PAYMENT_RESPONSE_SIZE);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = payment_render_response((char *) body, PAYMENT_RESPONSE_SIZE,
                                  payment, ctx->operation);

    return ngx_http_payment_send(r, NGX_HTTP_OK, &ngx_http_payment_json, body,
                                 len);
}


static ngx_int_t
ngx_http_payment_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, u_char *body, size_t len)
{
    ngx_int_t    rc;
    ngx_buf_t   *b;
    ngx_chain_t  out;

    r->headers_out.status = status;

    if (status == 422) {
        /* nginx has no words for it */
        ngx_str_set(&r->headers_out.status_line, "422 Unprocessable Content");
    }

    r->headers_out.content_length_n = len;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = body;
    b->last = body + len;
    b->memory = 1;
    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/* name and value are literals: nothing of a client's gets into a header */

static ngx_int_t
ngx_http_payment_add_header(ngx_http_request_t *r, const char *name,
    const char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}
