/* Log variables: what became of a request of payment_api. */

#include "ngx_http_payment_module.h"
#include "ngx_http_payment_trace.h"


static ngx_int_t ngx_http_payment_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_payment_variable_value(ngx_str_t *text,
    ngx_uint_t which, ngx_http_payment_ctx_t *ctx);
static ngx_int_t ngx_http_payment_variable_number(ngx_str_t *text,
    ngx_uint_t which, ngx_http_payment_ctx_t *ctx);
static ngx_int_t ngx_http_payment_variable_span(ngx_str_t *text,
    ngx_http_payment_ctx_t *ctx);
static void ngx_http_payment_variable_text(ngx_str_t *text,
    ngx_uint_t which, ngx_http_payment_ctx_t *ctx);
static const char *ngx_http_payment_variable_replayed(
    const ngx_http_payment_ctx_t *ctx, ngx_uint_t which);
static ngx_int_t ngx_http_payment_variable_line(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_payment_variable_escape(ngx_pool_t *pool,
    ngx_str_t *text);


/* $payment_log, and its length, in bytes, without the values of variables */

#define NGX_HTTP_PAYMENT_LINE                                                 \
    "{\"time\":\"%V\",\"client\":\"%V\",\"merchant\":\"%V\","                 \
    "\"method\":\"%V\",\"uri\":\"%V\",\"status\":%ui,"                        \
    "\"request_time\":%T.%03M,\"operation\":\"%V\",\"payment\":\"%V\","       \
    "\"state\":\"%V\",\"replayed\":%V,\"shard\":\"%V\",\"queue\":%V,"         \
    "\"commit\":%V,\"batch\":%V,\"error\":\"%V\",\"trace\":\"%V\"}"

#define NGX_HTTP_PAYMENT_LINE_LEN                                             \
    (sizeof(NGX_HTTP_PAYMENT_LINE) + sizeof("1970-09-28T12:00:00+06:00")      \
     + NGX_INT_T_LEN + NGX_TIME_T_LEN + NGX_INT64_LEN)


enum {
    PAYMENT_VAR_ID = 0,
    PAYMENT_VAR_STATUS,
    PAYMENT_VAR_OPERATION,
    PAYMENT_VAR_CURRENCY,
    PAYMENT_VAR_SHARD,
    PAYMENT_VAR_REPLAYED,
    PAYMENT_VAR_QUEUE_TIME,
    PAYMENT_VAR_COMMIT_TIME,
    PAYMENT_VAR_BATCH_SIZE,
    PAYMENT_VAR_TRACE_ID,
    PAYMENT_VAR_SPAN_ID,
    PAYMENT_VAR_ERROR,

    /* those of above that a log in JSON wants as numbers, and null where there
     * is none */
    PAYMENT_VAR_LOG_QUEUE,
    PAYMENT_VAR_LOG_COMMIT,
    PAYMENT_VAR_LOG_BATCH,
    PAYMENT_VAR_LOG_REPLAYED,

    PAYMENT_VARS
};


#define NGX_HTTP_PAYMENT_VAR(name, which)                                     \
    { ngx_string(name), NULL, ngx_http_payment_variable, which,               \
      NGX_HTTP_VAR_NOCACHEABLE, 0 }

/* a map of these names, which older configurations have, takes their place */

#define NGX_HTTP_PAYMENT_LOG_VAR(name, which)                                 \
    { ngx_string(name), NULL, ngx_http_payment_variable, which,               \
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_CHANGEABLE, 0 }


static ngx_http_variable_t  ngx_http_payment_vars[] = {
    NGX_HTTP_PAYMENT_VAR("payment_id", PAYMENT_VAR_ID),
    NGX_HTTP_PAYMENT_VAR("payment_status", PAYMENT_VAR_STATUS),
    NGX_HTTP_PAYMENT_VAR("payment_operation", PAYMENT_VAR_OPERATION),
    NGX_HTTP_PAYMENT_VAR("payment_currency", PAYMENT_VAR_CURRENCY),
    NGX_HTTP_PAYMENT_VAR("payment_shard", PAYMENT_VAR_SHARD),
    NGX_HTTP_PAYMENT_VAR("payment_replayed", PAYMENT_VAR_REPLAYED),
    NGX_HTTP_PAYMENT_VAR("payment_queue_time", PAYMENT_VAR_QUEUE_TIME),
    NGX_HTTP_PAYMENT_VAR("payment_commit_time", PAYMENT_VAR_COMMIT_TIME),
    NGX_HTTP_PAYMENT_VAR("payment_batch_size", PAYMENT_VAR_BATCH_SIZE),
    NGX_HTTP_PAYMENT_VAR("payment_trace_id", PAYMENT_VAR_TRACE_ID),
    NGX_HTTP_PAYMENT_VAR("payment_span_id", PAYMENT_VAR_SPAN_ID),
    NGX_HTTP_PAYMENT_VAR("payment_error", PAYMENT_VAR_ERROR),

    NGX_HTTP_PAYMENT_LOG_VAR("payment_log_queue", PAYMENT_VAR_LOG_QUEUE),
    NGX_HTTP_PAYMENT_LOG_VAR("payment_log_commit", PAYMENT_VAR_LOG_COMMIT),
    NGX_HTTP_PAYMENT_LOG_VAR("payment_log_batch", PAYMENT_VAR_LOG_BATCH),
    NGX_HTTP_PAYMENT_LOG_VAR("payment_log_replayed", PAYMENT_VAR_LOG_REPLAYED),

    { ngx_string("payment_log"), NULL, ngx_http_payment_variable_line, 0,
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_CHANGEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_payment_variables_add(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_payment_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/*
 * Words are shown where they are: they are the program's, the configuration's,
 * or the context's, which lives as long as its request.  Only numbers, and a
 * span's is one, have to be written.
 */

static ngx_int_t
ngx_http_payment_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t  text;

    if (ngx_http_payment_variable_value(&text, data,
                                        ngx_http_payment_api_ctx(r))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    v->data = text.data;
    v->len = (unsigned) text.len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = (text.len == 0);

    return NGX_OK;
}


/* ctx is NULL of a request that is not payment_api's. */

static ngx_int_t
ngx_http_payment_variable_value(ngx_str_t *text, ngx_uint_t which,
    ngx_http_payment_ctx_t *ctx)
{
    ngx_str_null(text);

    if (ctx) {
        switch (which) {

        case PAYMENT_VAR_QUEUE_TIME:
        case PAYMENT_VAR_LOG_QUEUE:
        case PAYMENT_VAR_COMMIT_TIME:
        case PAYMENT_VAR_LOG_COMMIT:
        case PAYMENT_VAR_BATCH_SIZE:
        case PAYMENT_VAR_LOG_BATCH:
            if (ngx_http_payment_variable_number(text, which, ctx) != NGX_OK) {
                return NGX_ERROR;
            }

            break;

        case PAYMENT_VAR_SPAN_ID:
            if (ngx_http_payment_variable_span(text, ctx) != NGX_OK) {
                return NGX_ERROR;
            }

            break;

        default:
            ngx_http_payment_variable_text(text, which, ctx);
        }
    }

    if (text->len == 0 && which >= PAYMENT_VAR_LOG_QUEUE) {
        ngx_str_set(text, "null");
    }

    return NGX_OK;
}


/* Times are in seconds, like $request_time, but with six decimals. */

static ngx_int_t
ngx_http_payment_variable_number(ngx_str_t *text, ngx_uint_t which,
    ngx_http_payment_ctx_t *ctx)
{
    u_char    *p;
    uint64_t   us;

    if (ctx->batch_size == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(ctx->request->pool, NGX_INT64_LEN + sizeof(".000000"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->data = p;

    if (which == PAYMENT_VAR_BATCH_SIZE || which == PAYMENT_VAR_LOG_BATCH) {
        p = ngx_sprintf(p, "%ui", ctx->batch_size);

    } else {
        us = (which == PAYMENT_VAR_QUEUE_TIME || which == PAYMENT_VAR_LOG_QUEUE)
             ? ctx->queue_us : ctx->commit_us;
        p = ngx_sprintf(p, "%uL.%06uL", us / 1000000, us % 1000000);
    }

    text->len = p - text->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_payment_variable_span(ngx_str_t *text, ngx_http_payment_ctx_t *ctx)
{
    if (!ctx->has_span) {
        return NGX_OK;
    }

    text->data = ngx_pnalloc(ctx->request->pool, 2 * NGX_PAYMENT_SPAN_ID_SIZE);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    text->len = ngx_hex_dump(text->data, ctx->span, NGX_PAYMENT_SPAN_ID_SIZE)
                - text->data;

    return NGX_OK;
}


/* The text stays empty where there is nothing to show. */

static void
ngx_http_payment_variable_text(ngx_str_t *text, ngx_uint_t which,
    ngx_http_payment_ctx_t *ctx)
{
    const char  *word;

    word = "";

    switch (which) {

    case PAYMENT_VAR_ID:
        text->data = ctx->id_text;
        text->len = ctx->has_id ? PAYMENT_ID_TEXT_LEN : 0;
        return;

    case PAYMENT_VAR_SHARD:
        if (ctx->shard) {
            *text = ctx->shard->name;
        }

        return;

    case PAYMENT_VAR_TRACE_ID:
        /* "00-", and then its 32 digits */
        text->data = ctx->trace + 3;
        text->len = ngx_http_payment_trace(ctx, 1) == NGX_OK ? 32 : 0;
        return;

    case PAYMENT_VAR_STATUS:
        word = ctx->status ? payment_name_status(ctx->status) : "";
        break;

    case PAYMENT_VAR_OPERATION:
        word = ctx->operation ? payment_name_operation(ctx->operation) : "";
        break;

    case PAYMENT_VAR_CURRENCY:
        word = ctx->currency;
        break;

    case PAYMENT_VAR_REPLAYED:
    case PAYMENT_VAR_LOG_REPLAYED:
        if (ctx->done) {
            word = ngx_http_payment_variable_replayed(ctx, which);
        }

        break;

    default: /* PAYMENT_VAR_ERROR */
        if (ctx->done && ctx->outcome > PAYMENT_REPLAYED) {
            word = payment_name_error(ctx->outcome)->code;
        }
    }

    text->data = (u_char *) word;
    text->len = ngx_strlen(word);
}


static const char *
ngx_http_payment_variable_replayed(const ngx_http_payment_ctx_t *ctx,
    ngx_uint_t which)
{
    ngx_uint_t  replayed;

    replayed = (ctx->outcome == PAYMENT_REPLAYED
                || ctx->outcome == PAYMENT_DUPLICATE);

    if (which == PAYMENT_VAR_REPLAYED) {
        return replayed ? "1" : "0";
    }

    return replayed ? "true" : "false";
}


/*
 * A whole line of an access log, made at once: log_format measures, escapes and
 * copies its variables one by one.
 */

static ngx_int_t
ngx_http_payment_variable_line(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    size_t                        size;
    ngx_str_t                     merchant, method, uri, *client;
    ngx_str_t                     value[PAYMENT_VARS];
    ngx_uint_t                    i, status;
    ngx_time_t                   *now;
    ngx_msec_int_t                ms;
    ngx_http_payment_ctx_t       *ctx;
    ngx_http_payment_loc_conf_t  *plcf;

    static const ngx_uint_t  shown[] = {
        PAYMENT_VAR_OPERATION, PAYMENT_VAR_ID, PAYMENT_VAR_STATUS,
        PAYMENT_VAR_LOG_REPLAYED, PAYMENT_VAR_SHARD, PAYMENT_VAR_LOG_QUEUE,
        PAYMENT_VAR_LOG_COMMIT, PAYMENT_VAR_LOG_BATCH, PAYMENT_VAR_ERROR,
        PAYMENT_VAR_TRACE_ID
    };

    ctx = ngx_http_payment_api_ctx(r);
    size = NGX_HTTP_PAYMENT_LINE_LEN;

    for (i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        if (ngx_http_payment_variable_value(&value[shown[i]], shown[i], ctx)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        size += value[shown[i]].len;
    }

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    ngx_str_null(&merchant);
    method = r->main->method_name;      /* HTTP/2 leaves even what is none */
    uri = r->uri;

    if ((plcf->merchant
         && ngx_http_complex_value(r, plcf->merchant, &merchant) != NGX_OK)
        || ngx_http_payment_variable_escape(r->pool, &merchant) != NGX_OK
        || ngx_http_payment_variable_escape(r->pool, &method) != NGX_OK
        || ngx_http_payment_variable_escape(r->pool, &uri) != NGX_OK)
    {
        return NGX_ERROR;
    }

    client = &r->connection->addr_text;
    size += client->len + merchant.len + method.len + uri.len;

    v->data = ngx_pnalloc(r->pool, size);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    /* these two as nginx has them in $status and $request_time */

    status = r->err_status ? r->err_status : r->headers_out.status;

    now = ngx_timeofday();
    ms = (ngx_msec_int_t) ((now->sec - r->start_sec) * 1000
                           + (now->msec - r->start_msec));
    ms = ngx_max(ms, 0);

    v->len = (unsigned)
             (ngx_snprintf(v->data, size, NGX_HTTP_PAYMENT_LINE,
                           &ngx_cached_http_log_iso8601, client, &merchant,
                           &method, &uri, status, (time_t) ms / 1000, ms % 1000,
                           &value[PAYMENT_VAR_OPERATION],
                           &value[PAYMENT_VAR_ID], &value[PAYMENT_VAR_STATUS],
                           &value[PAYMENT_VAR_LOG_REPLAYED],
                           &value[PAYMENT_VAR_SHARD],
                           &value[PAYMENT_VAR_LOG_QUEUE],
                           &value[PAYMENT_VAR_LOG_COMMIT],
                           &value[PAYMENT_VAR_LOG_BATCH],
                           &value[PAYMENT_VAR_ERROR],
                           &value[PAYMENT_VAR_TRACE_ID])
              - v->data);
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/* Most texts have nothing to escape, and stay where they are. */

static ngx_int_t
ngx_http_payment_variable_escape(ngx_pool_t *pool, ngx_str_t *text)
{
    u_char  *p;
    size_t   more;

    more = ngx_escape_json(NULL, text->data, text->len);
    if (more == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(pool, text->len + more);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->len = (u_char *) ngx_escape_json(p, text->data, text->len) - p;
    text->data = p;

    return NGX_OK;
}
