/* The servers of a shard: see ngx_http_payment_server.h. */

#include "ngx_http_payment_server.h"


#define NGX_HTTP_PAYMENT_SERVER_PORT      3306
#define NGX_HTTP_PAYMENT_SERVER_HOST_LEN  255


static char *ngx_http_payment_server_parse(ngx_conf_t *cf,
    ngx_payment_server_t *server);
static char *ngx_http_payment_server_parse_host(ngx_conf_t *cf,
    ngx_payment_server_t *server);
static char *ngx_http_payment_server_check_host(u_char *first, u_char *last);
static char *ngx_http_payment_server_check(ngx_payment_shard_t *shard);


char *
ngx_http_payment_server_conf(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_payment_shard_t *shard = conf;

    char                  *rv;
    ngx_str_t             *value;
    ngx_uint_t             i;
    ngx_payment_server_t  *server;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (shard->servers.nelts == NGX_PAYMENT_SERVERS_MAX) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "server \"%V\" of payment_shard \"%V\" is one "
                               "too many, the limit is %d",
                               &value[i], &shard->name,
                               NGX_PAYMENT_SERVERS_MAX);
            return NGX_CONF_ERROR;
        }

        server = ngx_array_push(&shard->servers);
        if (server == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(server, sizeof(ngx_payment_server_t));

        server->name = value[i];

        rv = ngx_http_payment_server_parse(cf, server);

        if (rv == NGX_CONF_OK) {
            rv = ngx_http_payment_server_check(shard);
        }

        if (rv == NGX_CONF_OK) {
            continue;
        }

        if (rv != NGX_CONF_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "%s in server \"%V\" of payment_shard \"%V\"",
                               rv, &value[i], &shard->name);
        }

        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_payment_server_parse(ngx_conf_t *cf,
    ngx_payment_server_t *server)
{
    struct sockaddr_un  *sun;

    server->host.data = (u_char *) "";
    server->path.data = (u_char *) "";

    if (server->name.len < 5
        || ngx_strncasecmp(server->name.data, (u_char *) "unix:", 5) != 0)
    {
        return ngx_http_payment_server_parse_host(cf, server);
    }

    /* the path is the end of a terminated string, and so terminated, too */

    server->path.data = server->name.data + 5;
    server->path.len = server->name.len - 5;

    if (server->path.len == 0) {
        return "no path";
    }

    if (server->path.data[0] != '/') {
        return "relative path";
    }

    if (server->path.len >= sizeof(sun->sun_path)) {
        return "too long path";
    }

    return NGX_CONF_OK;
}


/* The name may be host, host:port, [IPv6] or [IPv6]:port. */

static char *
ngx_http_payment_server_parse_host(ngx_conf_t *cf, ngx_payment_server_t *server)
{
    char       *wrong;
    u_char     *p, *first, *last, *end, *port;
    u_char      address[16];
    ngx_int_t   n;

    first = server->name.data;
    last = first + server->name.len;
    port = NULL;

    if (first < last && *first == '[') {
        first++;

        end = ngx_strlchr(first, last, ']');

        if (end == NULL
            || ngx_inet6_addr(first, end - first, address) != NGX_OK)
        {
            return "invalid IPv6 address";
        }

        p = end + 1;

        if (p < last) {
            if (*p != ':') {
                return "no port after the address";
            }

            port = p + 1;
        }

    } else {
        end = ngx_strlchr(first, last, ':');

        if (end) {
            port = end + 1;

            if (ngx_strlchr(port, last, ':')) {
                return "invalid port, an IPv6 address needs brackets,";
            }

        } else {
            end = last;
        }

        if (end == first) {
            return "no host";
        }

        wrong = ngx_http_payment_server_check_host(first, end);

        if (wrong) {
            return wrong;
        }
    }

    if (end - first > NGX_HTTP_PAYMENT_SERVER_HOST_LEN) {
        return "too long host";
    }

    server->port = NGX_HTTP_PAYMENT_SERVER_PORT;

    if (port) {
        n = ngx_atoi(port, last - port);

        if (n < 1 || n > 65535) {
            return "invalid port";
        }

        server->port = (in_port_t) n;
    }

    server->host.len = end - first;
    server->host.data = ngx_pnalloc(cf->pool, server->host.len + 1);

    if (server->host.data == NULL) {
        return NGX_CONF_ERROR;
    }

    *ngx_cpymem(server->host.data, first, server->host.len) = '\0';

    return NGX_CONF_OK;
}


/* An address of IPv4, or a name; NULL if it is well-formed. */

static char *
ngx_http_payment_server_check_host(u_char *first, u_char *last)
{
    u_char      *p;
    ngx_uint_t   letters;

    letters = 0;

    for (p = first; p < last; p++) {
        if ((*p >= '0' && *p <= '9') || *p == '.') {
            continue;
        }

        if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
            || *p == '-' || *p == '_')
        {
            letters = 1;
            continue;
        }

        return "invalid host";
    }

    if (!letters && ngx_inet_addr(first, last - first) == INADDR_NONE) {
        return "invalid IPv4 address";
    }

    return NULL;
}


/* Is the last server one of those before it? */

static char *
ngx_http_payment_server_check(ngx_payment_shard_t *shard)
{
    ngx_uint_t             i;
    ngx_payment_server_t  *servers, *last;

    servers = shard->servers.elts;
    last = &servers[shard->servers.nelts - 1];

    for (i = 0; i < shard->servers.nelts - 1; i++) {

        if (ngx_http_payment_server_same(&servers[i], last)) {
            return "duplicate address";
        }
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_payment_server_same(ngx_payment_server_t *one,
    ngx_payment_server_t *other)
{
    return one->port == other->port
           && ngx_strcmp(one->path.data, other->path.data) == 0
           && ngx_strcasecmp(one->host.data, other->host.data) == 0;
}
