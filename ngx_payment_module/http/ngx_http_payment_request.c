/* Reading a request: see ngx_http_payment_request.h. */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_request.h"


static ngx_str_t *ngx_http_payment_request_line(ngx_list_part_t **part,
    ngx_uint_t *i, const char *name);
static ngx_uint_t ngx_http_payment_request_is(u_char *first, u_char *last,
    const char *name);
static ngx_int_t ngx_http_payment_request_unescape(ngx_str_t *value,
    u_char *first, u_char *last);
static ngx_int_t ngx_http_payment_request_character(u_char **p, u_char *last);


ngx_int_t
ngx_http_payment_request_get(ngx_http_request_t *r, ngx_int_t *rc)
{
    payment_fault_t  fault;

    if (ngx_http_payment_request_discard(r, &fault) != NGX_OK) {
        *rc = ngx_http_payment_answer_problem(r, fault.outcome, NULL,
                                              fault.detail);
        return NGX_DECLINED;
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return NGX_OK;
    }

    *rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    if (ngx_http_payment_answer_header(r, "Allow", "GET, HEAD") == NGX_OK) {
        *rc = ngx_http_payment_answer_problem(r, PAYMENT_METHOD_NOT_ALLOWED,
                                              NULL,
                                              "the method must be GET or "
                                              "HEAD");
    }

    return NGX_DECLINED;
}


/*
 * A client that waits for 100 Continue gets the final answer at once.  Nobody
 * knows whether its body follows all the same, so nothing that comes after this
 * request can be taken for the next one.
 */

ngx_int_t
ngx_http_payment_request_discard(ngx_http_request_t *r,
    payment_fault_t *fault)
{
    ngx_int_t  rc;

    if (r->headers_in.expect && !r->expect_tested) {
        r->expect_tested = 1;
        r->keepalive = 0;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    r->keepalive = 0;

    if (rc == NGX_HTTP_BAD_REQUEST) {
        (void) payment_fault_set(fault, PAYMENT_INVALID, "",
                                 "the body is malformed: it is not in valid "
                                 "chunks");
        return NGX_DECLINED;
    }

    (void) payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                             "the body could not be discarded");
    return NGX_DECLINED;
}


/*
 * A Content-Encoding is refused by its name.  A body without a Content-Type is
 * refused, but not a request without a body.
 */

ngx_int_t
ngx_http_payment_request_json(ngx_http_request_t *r, payment_fault_t *fault)
{
    size_t      len;
    ngx_str_t   type, encoding;
    char        show[PAYMENT_FIELD_SIZE];

    if (ngx_http_payment_request_header(r, "content-encoding", &encoding)
        != NGX_OK)
    {
        (void) payment_fault_set(fault, PAYMENT_UNSUPPORTED_TYPE,
                                 "Content-Encoding",
                                 "there are several Content-Encoding headers");
        return NGX_DECLINED;
    }

    if (encoding.len
        && (encoding.len != sizeof("identity") - 1
            || ngx_strncasecmp(encoding.data, (u_char *) "identity",
                               encoding.len)
               != 0))
    {
        payment_text_show(show, (char *) encoding.data, encoding.len);

        (void) payment_fault_set(fault, PAYMENT_UNSUPPORTED_TYPE,
                                 "Content-Encoding",
                                 "the content encoding \"%s\" is not "
                                 "supported: the body must be sent without "
                                 "one", show);
        return NGX_DECLINED;
    }

    len = ngx_http_payment_answer_json.len;

    if (ngx_http_payment_request_header(r, "content-type", &type) == NGX_OK) {

        if (type.data == NULL
            && r->headers_in.content_length_n <= 0 && !r->headers_in.chunked)
        {
            return NGX_OK;
        }

        if (type.len >= len
            && ngx_strncasecmp(type.data, ngx_http_payment_answer_json.data,
                               len)
               == 0
            && (type.len == len || type.data[len] == ';'
                || type.data[len] == ' ' || type.data[len] == '\t'))
        {
            return NGX_OK;
        }
    }

    (void) payment_fault_set(fault, PAYMENT_UNSUPPORTED_TYPE, "",
                             "the content type must be application/json");
    return NGX_DECLINED;
}


ngx_int_t
ngx_http_payment_request_body(ngx_http_request_t *r, size_t max,
    ngx_str_t *body)
{
    off_t         size;
    size_t        n;
    u_char       *p;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    ngx_str_null(body);

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    size = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    if (size > (off_t) max) {
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

            /*
             * The last buffer of a chunked or empty body only marks the end:
             * it is neither in memory nor in a file.
             */

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


ngx_int_t
ngx_http_payment_request_header(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    ngx_uint_t        i, n;
    ngx_str_t        *line;
    ngx_list_part_t  *part;

    ngx_str_null(value);

    part = &r->headers_in.headers.part;
    i = 0;
    n = 0;

    while ((line = ngx_http_payment_request_line(&part, &i, name)) != NULL) {
        *value = *line;
        n++;
    }

    return n > 1 ? NGX_DECLINED : NGX_OK;
}


ngx_int_t
ngx_http_payment_request_lines(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    size_t            size;
    u_char           *p;
    ngx_uint_t        i;
    ngx_str_t        *line;
    ngx_list_part_t  *part;

    if (ngx_http_payment_request_header(r, name, value) == NGX_OK) {
        return NGX_OK;
    }

    part = &r->headers_in.headers.part;
    i = 0;
    size = 0;

    while ((line = ngx_http_payment_request_line(&part, &i, name)) != NULL) {
        size += line->len + 1;
    }

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;

    part = &r->headers_in.headers.part;
    i = 0;

    while ((line = ngx_http_payment_request_line(&part, &i, name)) != NULL) {
        p = ngx_cpymem(p, line->data, line->len);
        *p++ = ',';
    }

    value->len = size - 1;

    return NGX_OK;
}


/* The next line of a header, from the place on that part and i say, which are
 * moved behind it; NULL: there is none. */

static ngx_str_t *
ngx_http_payment_request_line(ngx_list_part_t **part, ngx_uint_t *i,
    const char *name)
{
    size_t            len;
    ngx_table_elt_t  *header;

    len = ngx_strlen(name);

    for ( /* void */ ; *part; *part = (*part)->next, *i = 0) {

        while (*i < (*part)->nelts) {
            header = (ngx_table_elt_t *) (*part)->elts + (*i)++;

            if (header->key.len == len
                && ngx_strncasecmp(header->key.data, (u_char *) name, len)
                   == 0)
            {
                return &header->value;
            }
        }
    }

    return NULL;
}


/*
 * A name may be written with escapes, like a value: "merchant%49d" is
 * merchantId to whoever else reads the query.
 */

ngx_int_t
ngx_http_payment_request_argument(ngx_http_request_t *r, const char *name,
    ngx_str_t *value, payment_fault_t *fault)
{
    u_char  *p, *last, *end, *equals;

    ngx_str_null(value);

    last = r->args.data + r->args.len;

    for (p = r->args.data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');
        if (end == NULL) {
            end = last;
        }

        equals = ngx_strlchr(p, end, '=');
        if (equals == NULL) {
            equals = end;
        }

        if (!ngx_http_payment_request_is(p, equals, name)) {
            continue;
        }

        if (value->data) {
            (void) payment_fault_set(fault, PAYMENT_INVALID, name,
                                     "%s is given more than once", name);
            return NGX_DECLINED;
        }

        value->data = ngx_pnalloc(r->pool, end - equals + 1);
        if (value->data == NULL) {
            (void) payment_fault_set(fault, PAYMENT_UNAVAILABLE, "",
                                     "there is no memory left");
            return NGX_DECLINED;
        }

        if (ngx_http_payment_request_unescape(value, equals + (equals < end),
                                              end)
            != NGX_OK)
        {
            (void) payment_fault_set(fault, PAYMENT_INVALID, name,
                                     "%s has a broken escape", name);
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_payment_request_is(u_char *first, u_char *last, const char *name)
{
    for ( /* void */ ; *name; name++) {
        if (ngx_http_payment_request_character(&first, last) != *name) {
            return 0;
        }
    }

    return first == last;
}


static ngx_int_t
ngx_http_payment_request_unescape(ngx_str_t *value, u_char *first,
    u_char *last)
{
    ngx_int_t  c;

    value->len = 0;

    while (first < last) {
        c = ngx_http_payment_request_character(&first, last);

        if (c == NGX_ERROR) {
            return NGX_ERROR;
        }

        value->data[value->len++] = (u_char) c;
    }

    return NGX_OK;
}


/* The next character of a form-encoded text; NGX_ERROR: there is none. */

static ngx_int_t
ngx_http_payment_request_character(u_char **p, u_char *last)
{
    u_char  *escape;

    if (*p == last) {
        return NGX_ERROR;
    }

    escape = (*p)++;

    if (*escape == '+') {
        return ' ';
    }

    if (*escape != '%') {
        return *escape;
    }

    if (last - *p < 2) {
        return NGX_ERROR;
    }

    *p += 2;

    return ngx_hextoi(escape + 1, 2);
}
