/* Log variables: what became of a request of payment_api. */

#include "ngx_http_payment_module.h"


static ngx_int_t ngx_http_payment_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static u_char *ngx_http_payment_print(u_char *p, ngx_uint_t which,
    ngx_http_payment_ctx_t *ctx);


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
    PAYMENT_VAR_ERROR
};


#define NGX_HTTP_PAYMENT_VAR(name, which)                                     \
    { ngx_string(name), NULL, ngx_http_payment_variable, which,               \
      NGX_HTTP_VAR_NOCACHEABLE, 0 }


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
    NGX_HTTP_PAYMENT_VAR("payment_error", PAYMENT_VAR_ERROR),
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


/* A value is at most as long as a shard's name or, if longer, 64 bytes. */

static ngx_int_t
ngx_http_payment_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    size_t                   size;
    u_char                  *p;
    ngx_http_payment_ctx_t  *ctx;

    ctx = ngx_http_payment_api_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    size = 64 + (ctx->shard ? ctx->shard->name.len : 0);

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;
    v->len = ngx_http_payment_print(p, data, ctx) - p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = (v->len == 0);

    return NGX_OK;
}


/* Times are in seconds, like $request_time, but with six decimals. */

static u_char *
ngx_http_payment_print_time(u_char *p, uint64_t us)
{
    return ngx_sprintf(p, "%uL.%06uL", us / 1000000, us % 1000000);
}


static u_char *
ngx_http_payment_print_text(u_char *p, const char *text)
{
    return ngx_cpymem(p, text, ngx_strlen(text));
}


static u_char *
ngx_http_payment_print(u_char *p, ngx_uint_t which,
    ngx_http_payment_ctx_t *ctx)
{
    switch (which) {

    case PAYMENT_VAR_ID:
        return ctx->has_id ? ngx_cpymem(p, ctx->id_text, PAYMENT_ID_TEXT_LEN)
                           : p;

    case PAYMENT_VAR_STATUS:
        return ctx->status
               ? ngx_http_payment_print_text(p,
                                             payment_name_status(ctx->status))
               : p;

    case PAYMENT_VAR_OPERATION:
        return ctx->operation
               ? ngx_http_payment_print_text(p,
                                   payment_name_operation(ctx->operation))
               : p;

    case PAYMENT_VAR_CURRENCY:
        return ngx_http_payment_print_text(p, ctx->currency);

    case PAYMENT_VAR_SHARD:
        return ctx->shard ? ngx_cpymem(p, ctx->shard->name.data,
                                       ctx->shard->name.len)
                          : p;

    case PAYMENT_VAR_REPLAYED:
        return ctx->done
               ? ngx_http_payment_print_text(p,
                     ctx->outcome == PAYMENT_REPLAYED
                     || ctx->outcome == PAYMENT_DUPLICATE ? "1" : "0")
               : p;

    case PAYMENT_VAR_QUEUE_TIME:
        return ctx->batch_size ? ngx_http_payment_print_time(p, ctx->queue_us)
                               : p;

    case PAYMENT_VAR_COMMIT_TIME:
        return ctx->batch_size ? ngx_http_payment_print_time(p, ctx->commit_us)
                               : p;

    case PAYMENT_VAR_BATCH_SIZE:
        return ctx->batch_size ? ngx_sprintf(p, "%ui", ctx->batch_size) : p;

    case PAYMENT_VAR_TRACE_ID:
        /* "00-", and then its 32 digits */
        return ngx_http_payment_api_trace(ctx, 1) == NGX_OK
               ? ngx_cpymem(p, ctx->trace + 3, 32) : p;

    default: /* PAYMENT_VAR_ERROR */
        return (ctx->done && ctx->outcome > PAYMENT_REPLAYED)
               ? ngx_http_payment_print_text(p,
                                         payment_name_error(ctx->outcome)->code)
               : p;
    }
}
