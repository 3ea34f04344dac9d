/* The directive payment_trace_exporter: see ngx_http_payment_exporter.h. */

#include "ngx_http_payment_exporter.h"


#define NGX_HTTP_PAYMENT_EXPORTER_PORT   4318    /* OTLP's, over HTTP */
#define NGX_HTTP_PAYMENT_EXPORTER_URL    512     /* bytes */
#define NGX_HTTP_PAYMENT_EXPORTER_NAME   128

#define NGX_HTTP_PAYMENT_EXPORTER_ZONE                                        \
    (sizeof(ngx_payment_span_ring_t) + 64 * 1024)


static char *ngx_http_payment_exporter_endpoint(ngx_conf_t *cf,
    ngx_payment_span_conf_t *spans, ngx_str_t *value);
static ngx_uint_t ngx_http_payment_exporter_plain(const ngx_str_t *value,
    size_t most);
static char *ngx_http_payment_exporter_zone(ngx_conf_t *cf,
    ngx_payment_span_conf_t *spans);
static ngx_int_t ngx_http_payment_exporter_init_zone(ngx_shm_zone_t *zone,
    void *data);


char *
ngx_http_payment_exporter_conf(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char                      *wrong;
    ngx_int_t                  n;
    ngx_str_t                 *value;
    ngx_uint_t                 i;
    ngx_payment_span_conf_t  **field, *spans;

    field = (ngx_payment_span_conf_t **) (p + cmd->offset);

    if (*field) {
        return "is duplicate";
    }

    spans = ngx_pcalloc(cf->pool, sizeof(ngx_payment_span_conf_t));
    if (spans == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    spans->sampled = PAYMENT_TRACE_ALL;
    ngx_str_set(&spans->service, "ngx_payment_module");

    wrong = ngx_http_payment_exporter_endpoint(cf, spans, &value[1]);
    if (wrong) {
        return wrong;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "sample=", 7) == 0
            && value[i].data[value[i].len - 1] == '%')
        {
            n = ngx_atofp(value[i].data + 7, value[i].len - 8, 2);

            if (n != NGX_ERROR && n <= 10000) {
                spans->sampled = PAYMENT_TRACE_ALL / 128 * (uint64_t) n
                                 / 10000 * 128;
                continue;
            }

        } else if (ngx_strncmp(value[i].data, "service=", 8) == 0) {
            spans->service.data = value[i].data + 8;
            spans->service.len = value[i].len - 8;

            if (ngx_http_payment_exporter_plain(&spans->service,
                                            NGX_HTTP_PAYMENT_EXPORTER_NAME))
            {
                continue;
            }
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\" directive, it must "
                           "be \"sample=\" and a percentage such as 12.5%%, or "
                           "\"service=\" and a name", &value[i], &cmd->name);
        return NGX_CONF_ERROR;
    }

    *field = spans;

    return ngx_http_payment_exporter_zone(cf, spans);
}


/* A name is looked up now, as that of any server of nginx's. */

static char *
ngx_http_payment_exporter_endpoint(ngx_conf_t *cf,
    ngx_payment_span_conf_t *spans, ngx_str_t *value)
{
    ngx_url_t  u;

    if (ngx_strncmp(value->data, "http://", 7) != 0
        || !ngx_http_payment_exporter_plain(value,
                                            NGX_HTTP_PAYMENT_EXPORTER_URL))
    {
        return "must begin with the collector's address, such as "
               "http://127.0.0.1:4318/v1/traces";
    }

    ngx_memzero(&u, sizeof(ngx_url_t));
    u.url.data = value->data + 7;
    u.url.len = value->len - 7;
    u.default_port = NGX_HTTP_PAYMENT_EXPORTER_PORT;
    u.uri_part = 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK || u.naddrs == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"payment_trace_exporter\" has an address that "
                           "cannot be used, \"%V\": %s", value,
                           u.err ? u.err : "no address");
        return NGX_CONF_ERROR;
    }

    spans->endpoint = *value;
    spans->addr = u.addrs;
    spans->host.data = u.url.data;
    spans->host.len = u.url.len - u.uri.len;
    spans->path = u.uri;

    if (spans->path.len == 0) {
        ngx_str_set(&spans->path, "/v1/traces");
    }

    return NULL;
}


/* Printable ASCII that needs no quoting, neither in a header nor in JSON. */

static ngx_uint_t
ngx_http_payment_exporter_plain(const ngx_str_t *value, size_t most)
{
    size_t  i;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] <= ' ' || value->data[i] > '~'
            || value->data[i] == '"' || value->data[i] == '\\')
        {
            return 0;
        }
    }

    return value->len > 0 && value->len <= most;
}


static char *
ngx_http_payment_exporter_zone(ngx_conf_t *cf, ngx_payment_span_conf_t *spans)
{
    ngx_str_t        name;
    ngx_shm_zone_t  *zone;

    ngx_str_set(&name, "ngx_payment_spans");

    zone = ngx_shared_memory_add(cf, &name, NGX_HTTP_PAYMENT_EXPORTER_ZONE,
                                 &ngx_http_payment_module);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone->init = ngx_http_payment_exporter_init_zone;
    zone->data = spans;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_payment_exporter_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t          *pool;
    ngx_payment_span_conf_t  *spans;

    spans = zone->data;
    pool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data == NULL && !zone->shm.exists) {
        pool->data = ngx_slab_calloc(pool, sizeof(ngx_payment_span_ring_t));

        if (pool->data == NULL) {
            return NGX_ERROR;
        }
    }

    spans->pool = pool;
    spans->ring = pool->data;

    return NGX_OK;
}
