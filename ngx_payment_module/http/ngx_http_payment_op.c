/* From an HTTP request to an operation: see ngx_http_payment_op.h. */

#include "ngx_http_payment_op.h"
#include "ngx_http_payment_random.h"
#include "ngx_http_payment_request.h"
#include "ngx_http_payment_trace.h"
#include "ngx_http_payment_value.h"
#include "ngx_payment_storm.h"


static ngx_int_t ngx_http_payment_op_lifetime(ngx_http_request_t *r,
    payment_request_t *request);
static ngx_int_t ngx_http_payment_op_query(ngx_http_request_t *r,
    payment_request_t *request, ngx_str_t *text, payment_fault_t *fault);
static ngx_int_t ngx_http_payment_op_list(ngx_http_request_t *r,
    ngx_payment_op_t *op, payment_fault_t *fault);


ngx_int_t
ngx_http_payment_op_parse(ngx_http_request_t *r, ngx_payment_op_t *op,
    ngx_str_t *body, payment_fault_t *fault)
{
    ngx_str_t                     key, identity, text;
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

    if (ngx_http_payment_request_header(r, "idempotency-key", &key) != NGX_OK)
    {
        /* several headers mean the same as one with commas: malformed */

        ngx_str_set(&key, ",");
    }

    text = *body;

    /* a caller without an identity hears 401, whatever the query says */

    if (payment_operation_reads(request->operation)
        && (identity.data == NULL
            || payment_request_merchant_valid((char *) identity.data,
                                              identity.len))
        && ngx_http_payment_op_query(r, request, &text, fault) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (payment_request_parse(request, &plcf->rules, (char *) text.data,
                              text.len, (char *) key.data, key.len,
                              (char *) identity.data, identity.len, fault)
        != PAYMENT_OK)
    {
        return NGX_ERROR;
    }

    /* the writer has to look whether the key was used under other rules */

    if (request->forbidden) {
        op->fault = *fault;
    }

    /*
     * An operation without a key gets a random one: by its row the outcome can
     * be found out if the answer to COMMIT is lost.
     */

    if ((!request->has_key
         && ngx_http_payment_random(request->key_hash, PAYMENT_KEY_HASH_SIZE)
            != NGX_OK)
        || ngx_http_payment_op_lifetime(r, request) != NGX_OK
        || ngx_http_payment_trace_take(r, op) != NGX_OK)
    {
        fault->outcome = PAYMENT_UNAVAILABLE;
        return NGX_ERROR;
    }

    op->bytes = sizeof(ngx_payment_op_t) + request->metadata_len
                + op->tracestate.len;

    if (request->operation == PAYMENT_OPERATIONS) {
        op->answer_bytes = PAYMENT_PAGE_SIZE;
    }

    return request->operation == PAYMENT_LIST
           ? ngx_http_payment_op_list(r, op, fault) : NGX_OK;
}


/* The currency is known by now, and may decide.  A value that is no time is
 * logged, and the authorization never ends by itself. */

static ngx_int_t
ngx_http_payment_op_lifetime(ngx_http_request_t *r,
    payment_request_t *request)
{
    const char                   *note;
    ngx_int_t                     seconds;
    ngx_str_t                     value;
    ngx_http_payment_ctx_t       *ctx;
    static ngx_payment_storm_t    storm;
    ngx_http_payment_loc_conf_t  *plcf;

    if (request->operation != PAYMENT_AUTHORIZE) {
        return NGX_OK;
    }

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    ctx = ngx_http_get_module_ctx(r, ngx_http_payment_module);
    ngx_memcpy(ctx->currency, request->currency, sizeof(ctx->currency));

    if (plcf->lifetime == NULL || plcf->lifetime->lengths == NULL) {
        request->lifetime_ms = (int64_t) plcf->lifetime_seconds * 1000;
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, plcf->lifetime, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    seconds = value.len ? ngx_http_payment_value_seconds(&value) : 0;

    if (seconds == NGX_ERROR) {
        note = ngx_payment_storm_note(&storm, 1);

        if (note) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "payment: \"%V\" in \"payment_authorization_"
                          "lifetime\" is no time: the authorization does not "
                          "expire%s", &value, note);
        }

        seconds = 0;
    }

    request->lifetime_ms = (int64_t) seconds * 1000;

    return NGX_OK;
}


/* The merchantId of a request that only reads, and has no body, is an argument
 * of the query; so is the key of a look-up, or the cursor of operations. */

static ngx_int_t
ngx_http_payment_op_query(ngx_http_request_t *r, payment_request_t *request,
    ngx_str_t *text, payment_fault_t *fault)
{
    ngx_str_t  value;

    request->merchant_len = 0;

    if (ngx_http_payment_request_argument(r, "merchantId", &value, fault)
        != NGX_OK
        || (request->operation == PAYMENT_LOOKUP
            && ngx_http_payment_request_argument(r, "idempotencyKey", text,
                                                 fault)
               != NGX_OK)
        || (request->operation == PAYMENT_OPERATIONS
            && ngx_http_payment_request_argument(r, "cursor", text, fault)
               != NGX_OK))
    {
        return NGX_ERROR;
    }

    if (value.data == NULL) {
        return NGX_OK;
    }

    if (!payment_request_merchant_valid((char *) value.data, value.len)) {
        (void) payment_fault_set(fault, PAYMENT_INVALID, "merchantId",
                                 "merchantId must be 1 to 32 characters of "
                                 "UTF-8 without control characters");
        return NGX_ERROR;
    }

    request->merchant_len = value.len;
    ngx_memcpy(request->merchant, value.data, value.len);

    return NGX_OK;
}


/* Which payments of the merchant are to be listed. */

static ngx_int_t
ngx_http_payment_op_list(ngx_http_request_t *r, ngx_payment_op_t *op,
    payment_fault_t *fault)
{
    ngx_str_t            value;
    ngx_uint_t           i;
    payment_argument_t   args[PAYMENT_LIST_ARGUMENTS];

    for (i = 0; i < PAYMENT_LIST_ARGUMENTS; i++) {

        if (ngx_http_payment_request_argument(r, payment_list_name(i), &value,
                                              fault)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        args[i].text = (char *) value.data;
        args[i].len = value.len;
    }

    op->list = ngx_alloc(sizeof(payment_list_t), r->connection->log);

    if (op->list == NULL) {
        fault->outcome = PAYMENT_UNAVAILABLE;
        return NGX_ERROR;
    }

    if (payment_list_parse(op->list, args, op->request.merchant,
                           op->request.merchant_len, fault)
        != PAYMENT_OK)
    {
        return NGX_ERROR;
    }

    op->bytes += sizeof(payment_list_t);
    op->answer_bytes = op->list->limit * (1 + PAYMENT_LISTED_SIZE);

    return NGX_OK;
}
