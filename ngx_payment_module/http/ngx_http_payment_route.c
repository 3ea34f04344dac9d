/* Which operation a request asks for: see ngx_http_payment_route.h. */

#include "ngx_http_payment_request.h"
#include "ngx_http_payment_route.h"


typedef struct {
    ngx_str_t             name;
    payment_operation_e   operation;
} ngx_http_payment_verb_t;


static payment_operation_e ngx_http_payment_route_verb(u_char *word,
    size_t len);
static ngx_uint_t ngx_http_payment_route_is_operations(u_char *word,
    u_char *last);
static ngx_uint_t ngx_http_payment_route_lists(ngx_http_request_t *r);


static const ngx_http_payment_verb_t  ngx_http_payment_route_verbs[] = {
    { ngx_string("authorize"), PAYMENT_AUTHORIZE },
    { ngx_string("capture"), PAYMENT_CAPTURE },
    { ngx_string("refund"), PAYMENT_REFUND },
    { ngx_string("void"), PAYMENT_VOID },
    { ngx_null_string, 0 }
};


ngx_int_t
ngx_http_payment_route_path(ngx_http_request_t *r, ngx_str_t *path)
{
    ngx_str_t                    *prefix;
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);
    prefix = &plcf->prefix;

    *path = r->uri;

    if (prefix->len == 0 || prefix->len > path->len
        || ngx_strncmp(path->data, prefix->data, prefix->len) != 0)
    {
        ngx_http_payment_route_last_words(path);
        return NGX_OK;
    }

    path->data += prefix->len;
    path->len -= prefix->len;

    if (path->len && path->data[0] == '/') {
        path->data++;
        path->len--;
        return NGX_OK;
    }

    return (path->len && path->data[-1] != '/') ? NGX_DECLINED : NGX_OK;
}


void
ngx_http_payment_route_last_words(ngx_str_t *path)
{
    u_char  *first, *last, *word, *before;

    first = path->data;
    last = first + path->len;

    /* a slash at the very end is a part of the last word, if that is a verb */

    for (word = last; word > first; word--) {
        if (word[-1] == '/' && word != last) {
            break;
        }
    }

    before = word;

    if (word > first) {
        for (before = word - 1; before > first && before[-1] != '/'; before--)
        {
            /* void */
        }

        if (ngx_http_payment_route_verb(before, word - 1 - before)
            <= PAYMENT_AUTHORIZE
            && !ngx_http_payment_route_is_operations(word, last))
        {
            before = word;
        }
    }

    if (before == word && last > word && last[-1] == '/'
        && ngx_http_payment_route_verb(word, last - 1 - word) == 0)
    {
        before = last;
    }

    path->data = before;
    path->len = last - before;
}


ngx_int_t
ngx_http_payment_route(ngx_http_payment_ctx_t *ctx, ngx_str_t *path,
    ngx_str_t *id)
{
    u_char               *last, *slash;
    payment_operation_e   operation;

    last = path->data + path->len;
    slash = ngx_strlchr(path->data, last, '/');

    operation = ngx_http_payment_route_verb(path->data,
                                            (slash ? slash : last)
                                            - path->data);

    if (slash == NULL) {

        if (path->len == 0) {
            ctx->operation = ngx_http_payment_route_lists(ctx->request)
                             ? PAYMENT_LIST : PAYMENT_LOOKUP;
            return NGX_OK;
        }

        /* "capture" without an id is taken for an id, which no payment has */

        ctx->operation = (operation == PAYMENT_AUTHORIZE) ? PAYMENT_AUTHORIZE
                                                          : PAYMENT_GET;
        *id = *path;

        return NGX_OK;
    }

    if (operation == 0
        && ngx_http_payment_route_is_operations(slash + 1, last))
    {
        ctx->operation = PAYMENT_OPERATIONS;
        id->data = path->data;
        id->len = slash - path->data;

        return NGX_OK;
    }

    if (operation <= PAYMENT_AUTHORIZE) {
        return NGX_DECLINED;
    }

    ctx->operation = operation;
    id->data = slash + 1;
    id->len = last - id->data;

    return NGX_OK;
}


/* 0: the word is no verb.  All verbs but authorize take an id. */

static payment_operation_e
ngx_http_payment_route_verb(u_char *word, size_t len)
{
    const ngx_http_payment_verb_t  *verb;

    for (verb = ngx_http_payment_route_verbs; verb->name.len; verb++) {
        if (verb->name.len == len
            && ngx_strncmp(verb->name.data, word, len) == 0)
        {
            break;
        }
    }

    return verb->operation;
}


static ngx_uint_t
ngx_http_payment_route_is_operations(u_char *word, u_char *last)
{
    return last - word == sizeof("operations") - 1
           && ngx_strncmp(word, "operations", sizeof("operations") - 1) == 0;
}


/* A key that is given, however badly, is one to be looked up. */

static ngx_uint_t
ngx_http_payment_route_lists(ngx_http_request_t *r)
{
    ngx_str_t                     key;
    payment_fault_t               fault;
    ngx_http_payment_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_payment_module);

    return plcf->list
           && ngx_http_payment_request_header(r, "idempotency-key", &key)
              == NGX_OK
           && key.data == NULL
           && ngx_http_payment_request_argument(r, "idempotencyKey", &key,
                                                &fault)
              == NGX_OK
           && key.data == NULL;
}


ngx_uint_t
ngx_http_payment_route_takes_id(payment_operation_e operation)
{
    return operation != PAYMENT_AUTHORIZE && operation != PAYMENT_LOOKUP
           && operation != PAYMENT_LIST;
}
