/*
 * The payment_shard{} block.
 *
 * Runs while the configuration is read, in the master, and touches no server.
 * A password is never part of a message.
 *
 * Limits: NGX_PAYMENT_SHARDS_MAX shards.
 */

#include "ngx_http_payment_file.h"
#include "ngx_http_payment_module.h"
#include "ngx_http_payment_server.h"


#define NGX_HTTP_PAYMENT_SHARD_CONNECTIONS_MAX     64

/* of a connection, before it is replaced */
#define NGX_HTTP_PAYMENT_SHARD_LIFE_MIN   50        /* ms */

/* what ngx_payment_transaction_session says */
#define NGX_HTTP_PAYMENT_SHARD_LOCK_WAIT  1000      /* ms */

#define NGX_HTTP_PAYMENT_SHARD_DATABASE_LEN        64
#define NGX_HTTP_PAYMENT_SHARD_USER_LEN            128
#define NGX_HTTP_PAYMENT_SHARD_PASSWORD_LEN        1024


static char *ngx_http_payment_shard_directive(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static ngx_uint_t ngx_http_payment_shard_takes(ngx_command_t *cmd,
    ngx_uint_t nelts);
static char *ngx_http_payment_shard_slots(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_payment_shard_string(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_payment_shard_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_payment_shard_installation(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_payment_shard_password_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_payment_shard_check_connections(ngx_conf_t *cf,
    void *post, void *data);
static char *ngx_http_payment_shard_check_life(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_payment_shard_check_timeout(ngx_conf_t *cf, void *post,
    void *data);

static ngx_payment_shard_t *ngx_http_payment_shard_create(ngx_conf_t *cf,
    ngx_str_t *name);
static char *ngx_http_payment_shard_check_name(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf, ngx_str_t *name);
static char *ngx_http_payment_shard_finish(ngx_conf_t *cf,
    ngx_payment_shard_t *shard);
static ngx_uint_t ngx_http_payment_shard_is_local(ngx_payment_shard_t *shard);
static char *ngx_http_payment_shard_finish_durability(ngx_conf_t *cf,
    ngx_payment_shard_t *shard);
static char *ngx_http_payment_shard_finish_ssl(ngx_conf_t *cf,
    ngx_payment_shard_t *shard);


static ngx_conf_post_t  ngx_http_payment_shard_connections = {
    ngx_http_payment_shard_check_connections
};

static ngx_conf_post_t  ngx_http_payment_shard_life = {
    ngx_http_payment_shard_check_life
};

static ngx_conf_post_t  ngx_http_payment_shard_timeout = {
    ngx_http_payment_shard_check_timeout
};


static ngx_conf_enum_t  ngx_http_payment_shard_durabilities[] = {
    { ngx_string("local"), NGX_PAYMENT_DURABILITY_LOCAL },
    { ngx_string("replica"), NGX_PAYMENT_DURABILITY_REPLICA },
    { ngx_null_string, 0 }
};


/*
 * What may stand in the block.  The core's handler of directives knows modules
 * only, so that ngx_http_payment_shard_directive() does its work for these.
 */

static ngx_command_t  ngx_http_payment_shard_commands[] = {

    { ngx_string("slots"),
      NGX_CONF_1MORE,
      ngx_http_payment_shard_slots,
      0,
      offsetof(ngx_payment_shard_t, slots),
      NULL },

    { ngx_string("server"),
      NGX_CONF_1MORE,
      ngx_http_payment_server_conf,
      0,
      offsetof(ngx_payment_shard_t, servers),
      NULL },

    { ngx_string("database"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_string,
      NGX_HTTP_PAYMENT_SHARD_DATABASE_LEN,
      offsetof(ngx_payment_shard_t, database),
      NULL },

    { ngx_string("installation"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_installation,
      NGX_PAYMENT_UUID_LEN,
      offsetof(ngx_payment_shard_t, belongs_to),
      NULL },

    { ngx_string("user"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_string,
      NGX_HTTP_PAYMENT_SHARD_USER_LEN,
      offsetof(ngx_payment_shard_t, user),
      NULL },

    { ngx_string("password"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_string,
      NGX_HTTP_PAYMENT_SHARD_PASSWORD_LEN,
      offsetof(ngx_payment_shard_t, password),
      NULL },

    { ngx_string("password_file"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_password_file,
      NGX_HTTP_PAYMENT_SHARD_PASSWORD_LEN,
      offsetof(ngx_payment_shard_t, password),
      NULL },

    { ngx_string("ssl"),
      NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      0,
      offsetof(ngx_payment_shard_t, ssl),
      NULL },

    { ngx_string("ssl_ca"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_file,
      0,
      offsetof(ngx_payment_shard_t, ssl_ca),
      NULL },

    { ngx_string("ssl_certificate"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_file,
      0,
      offsetof(ngx_payment_shard_t, ssl_certificate),
      NULL },

    { ngx_string("ssl_certificate_key"),
      NGX_CONF_TAKE1,
      ngx_http_payment_shard_file,
      0,
      offsetof(ngx_payment_shard_t, ssl_certificate_key),
      NULL },

    { ngx_string("ssl_verify"),
      NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      0,
      offsetof(ngx_payment_shard_t, ssl_verify),
      NULL },

    { ngx_string("durability"),
      NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      0,
      offsetof(ngx_payment_shard_t, durability),
      &ngx_http_payment_shard_durabilities },

    { ngx_string("connections"),
      NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      0,
      offsetof(ngx_payment_shard_t, connections),
      &ngx_http_payment_shard_connections },

    { ngx_string("connect_timeout"),
      NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      0,
      offsetof(ngx_payment_shard_t, connect_timeout),
      &ngx_http_payment_shard_timeout },

    { ngx_string("read_timeout"),
      NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      0,
      offsetof(ngx_payment_shard_t, read_timeout),
      &ngx_http_payment_shard_timeout },

    { ngx_string("idle_timeout"),
      NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      0,
      offsetof(ngx_payment_shard_t, idle_timeout),
      &ngx_http_payment_shard_life },

    { ngx_string("max_age"),
      NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      0,
      offsetof(ngx_payment_shard_t, max_age),
      &ngx_http_payment_shard_life },

    { ngx_string("max_requests"),
      NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      0,
      offsetof(ngx_payment_shard_t, max_requests),
      NULL },

      ngx_null_command
};


char *
ngx_http_payment_shard_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_payment_main_conf_t *pmcf = conf;

    char                  *rv;
    ngx_str_t             *value, name;
    ngx_conf_t             save;
    ngx_payment_shard_t   *shard, **slot;

    /* reading the block replaces cf->args, so the name is kept here */

    value = cf->args->elts;
    name = value[1];

    rv = ngx_http_payment_shard_check_name(cf, pmcf, &name);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    shard = ngx_http_payment_shard_create(cf, &name);
    if (shard == NULL) {
        return NGX_CONF_ERROR;
    }

    save = *cf;
    cf->handler = ngx_http_payment_shard_directive;
    cf->handler_conf = (char *) shard;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_payment_shard_finish(cf, shard);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    slot = ngx_array_push(&pmcf->shards);
    if (slot == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = shard;

    return NGX_CONF_OK;
}


/* The name goes into metrics' labels, JSON, SQL and log lines as it is. */

static char *
ngx_http_payment_shard_check_name(ngx_conf_t *cf,
    ngx_http_payment_main_conf_t *pmcf, ngx_str_t *name)
{
    u_char                 c;
    ngx_uint_t             i;
    ngx_payment_shard_t  **shards;

    if (name->len == 0 || name->len > NGX_PAYMENT_SHARD_NAME_LEN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" of payment_shard, it must have "
                           "1 to %d characters", name,
                           NGX_PAYMENT_SHARD_NAME_LEN);
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
            || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.')
        {
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" of payment_shard, it may have "
                           "letters, digits, \"_\", \"-\" and \".\" only",
                           name);
        return NGX_CONF_ERROR;
    }

    shards = pmcf->shards.elts;

    for (i = 0; i < pmcf->shards.nelts; i++) {
        if (shards[i]->name.len == name->len
            && ngx_strncmp(shards[i]->name.data, name->data, name->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate payment_shard \"%V\"", name);
            return NGX_CONF_ERROR;
        }
    }

    if (pmcf->shards.nelts == NGX_PAYMENT_SHARDS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "payment_shard \"%V\" is one too many, the limit "
                           "is %d", name, NGX_PAYMENT_SHARDS_MAX);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_payment_shard_t *
ngx_http_payment_shard_create(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_payment_shard_t  *shard;

    shard = ngx_pcalloc(cf->pool, sizeof(ngx_payment_shard_t));
    if (shard == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     shard->database and all other strings = { 0, NULL };
     *     shard->index = shard->open = shard->warned = 0;
     *     shard->slots_text = { 0, NULL };
     *     shard->peers = shard->common = shard->installation = NULL;
     *     shard->secret = { 0 };
     */

    shard->name = *name;

    if (ngx_array_init(&shard->slots, cf->pool, 1,
                       sizeof(ngx_payment_slots_t))
        != NGX_OK)
    {
        return NULL;
    }

    if (ngx_array_init(&shard->servers, cf->pool, 1,
                       sizeof(ngx_payment_server_t))
        != NGX_OK)
    {
        return NULL;
    }

    shard->ssl = NGX_CONF_UNSET;
    shard->ssl_verify = NGX_CONF_UNSET;

    shard->durability = NGX_CONF_UNSET_UINT;
    shard->connections = NGX_CONF_UNSET_UINT;
    shard->connect_timeout = NGX_CONF_UNSET_MSEC;
    shard->read_timeout = NGX_CONF_UNSET_MSEC;
    shard->idle_timeout = NGX_CONF_UNSET_MSEC;
    shard->max_age = NGX_CONF_UNSET_MSEC;
    shard->max_requests = NGX_CONF_UNSET_UINT;

    return shard;
}


static char *
ngx_http_payment_shard_directive(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf)
{
    char           *rv;
    ngx_str_t      *value;
    ngx_command_t  *cmd;

    value = cf->args->elts;

    if (value[0].len == 7 && ngx_strcmp(value[0].data, "include") == 0) {
        if (cf->args->nelts != 2) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments in \"include\" "
                               "directive");
            return NGX_CONF_ERROR;
        }

        return ngx_conf_include(cf, dummy, conf);
    }

    for (cmd = ngx_http_payment_shard_commands; cmd->name.len; cmd++) {

        if (value[0].len != cmd->name.len
            || ngx_strcmp(value[0].data, cmd->name.data) != 0)
        {
            continue;
        }

        if (!ngx_http_payment_shard_takes(cmd, cf->args->nelts)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments in \"%V\" "
                               "directive", &value[0]);
            return NGX_CONF_ERROR;
        }

        rv = cmd->set(cf, cmd, conf);

        if (rv == NGX_CONF_OK || rv == NGX_CONF_ERROR) {
            return rv;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" directive %s",
                           &cmd->name, rv);
        return NGX_CONF_ERROR;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "unknown directive \"%V\" in payment_shard", &value[0]);

    return NGX_CONF_ERROR;
}


static ngx_uint_t
ngx_http_payment_shard_takes(ngx_command_t *cmd, ngx_uint_t nelts)
{
    return (cmd->type & NGX_CONF_1MORE) ? nelts >= 2 : nelts == 2;
}


static char *
ngx_http_payment_shard_slots(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_payment_shard_t *shard = conf;

    u_char               *dash, *last;
    ngx_int_t             first, end;
    ngx_str_t            *value;
    ngx_uint_t            i;
    ngx_payment_slots_t  *slots;

    if (shard->slots.nelts) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        last = value[i].data + value[i].len;
        dash = ngx_strlchr(value[i].data, last, '-');

        if (dash) {
            first = ngx_atoi(value[i].data, dash - value[i].data);
            end = ngx_atoi(dash + 1, last - dash - 1);

        } else {
            first = ngx_atoi(value[i].data, value[i].len);
            end = first;
        }

        if (first == NGX_ERROR || end == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid slots \"%V\" of payment_shard \"%V\", "
                               "expected a number or a range such as 0-511",
                               &value[i], &shard->name);
            return NGX_CONF_ERROR;
        }

        if (first > end) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid slots \"%V\" of payment_shard \"%V\", "
                               "the range is reversed",
                               &value[i], &shard->name);
            return NGX_CONF_ERROR;
        }

        if (end >= PAYMENT_SLOTS) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid slots \"%V\" of payment_shard \"%V\", "
                               "the last slot there is is %d",
                               &value[i], &shard->name, PAYMENT_SLOTS - 1);
            return NGX_CONF_ERROR;
        }

        slots = ngx_array_push(&shard->slots);
        if (slots == NULL) {
            return NGX_CONF_ERROR;
        }

        slots->first = first;
        slots->last = end;
    }

    return NGX_CONF_OK;
}


/* ngx_conf_set_str_slot(), with a longest length, which is in cmd->conf. */

static char *
ngx_http_payment_shard_string(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t  *field, *value;

    field = (ngx_str_t *) (p + cmd->offset);

    if (field->data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len > cmd->conf) {
        return "has a too long value";
    }

    if (ngx_strlen(value[1].data) != value[1].len) {
        return "has a null character in its value";
    }

    *field = value[1];

    return NGX_CONF_OK;
}


/* A UUID as it stands in payment_identity, where its digits are small. */

static char *
ngx_http_payment_shard_installation(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    char       *rv;
    ngx_str_t  *field;
    ngx_uint_t  i, digit;

    rv = ngx_http_payment_shard_string(cf, cmd, conf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    field = (ngx_str_t *) (p + cmd->offset);
    ngx_strlow(field->data, field->data, field->len);

    for (i = 0; i < field->len; i++) {

        digit = (field->data[i] >= '0' && field->data[i] <= '9')
                || (field->data[i] >= 'a' && field->data[i] <= 'f');

        if ((i == 8 || i == 13 || i == 18 || i == 23)
            ? field->data[i] != '-' : !digit)
        {
            return "is not a UUID";
        }
    }

    return field->len == NGX_PAYMENT_UUID_LEN ? NGX_CONF_OK : "is not a UUID";
}


/* The client library opens the file, by its name, with each connection. */

static char *
ngx_http_payment_shard_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t  *field, *value;

    field = (ngx_str_t *) (p + cmd->offset);

    if (field->data) {
        return "is duplicate";
    }

    value = cf->args->elts;
    *field = value[1];

    if (ngx_conf_full_name(cf->cycle, field, 1) != NGX_OK
        || ngx_http_payment_file_readable(cf, field, (char *) cmd->name.data)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_payment_shard_password_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_payment_shard_t *shard = conf;

    ngx_str_t  *value, name;

    if (shard->password.data) {
        return "is duplicate, or stands beside \"password\"";
    }

    value = cf->args->elts;
    name = value[1];

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK
        || ngx_http_payment_file_secret(cf, &name, &shard->password, cmd->conf)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_payment_shard_check_connections(ngx_conf_t *cf, void *post, void *data)
{
    ngx_int_t  *n = data;

    return (*n >= 1 && *n <= NGX_HTTP_PAYMENT_SHARD_CONNECTIONS_MAX)
           ? NGX_CONF_OK : "must be between 1 and 64";
}


/* One that is replaced before it could do anything does nothing else. */

static char *
ngx_http_payment_shard_check_life(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t  *life = data;

    return (*life == 0 || *life >= NGX_HTTP_PAYMENT_SHARD_LIFE_MIN)
           ? NGX_CONF_OK : "must be 0, which is never, or 50ms at least";
}


static char *
ngx_http_payment_shard_check_timeout(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t  *timeout = data;

    return *timeout ? NGX_CONF_OK : "must be more than 0";
}


static char *
ngx_http_payment_shard_finish(ngx_conf_t *cf, ngx_payment_shard_t *shard)
{
    char  *missing;

    missing = NULL;

    if (shard->servers.nelts == 0) {
        missing = "server";

    } else if (shard->database.len == 0) {
        missing = "database";

    } else if (shard->user.len == 0) {
        missing = "user";
    }

    if (missing) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"%s\" in payment_shard \"%V\"",
                           missing, &shard->name);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_payment_shard_finish_durability(cf, shard) != NGX_CONF_OK
        || ngx_http_payment_shard_finish_ssl(cf, shard) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    /* what is not given is an empty string, terminated as the others are */

    if (shard->password.data == NULL) {
        ngx_str_set(&shard->password, "");

        if (shard->ssl_certificate.data == NULL
            && !ngx_http_payment_shard_is_local(shard))
        {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "no \"password\", \"password_file\" or "
                               "\"ssl_certificate\" in payment_shard \"%V\"",
                               &shard->name);
        }
    }

    if (shard->belongs_to.data == NULL) {
        ngx_str_set(&shard->belongs_to, "");
    }

    if (shard->ssl_ca.data == NULL) {
        ngx_str_set(&shard->ssl_ca, "");
    }

    if (shard->ssl_certificate.data == NULL) {
        ngx_str_set(&shard->ssl_certificate, "");
        ngx_str_set(&shard->ssl_certificate_key, "");
    }

    ngx_conf_init_uint_value(shard->connections, 2);
    ngx_conf_init_msec_value(shard->connect_timeout, 2000);
    ngx_conf_init_msec_value(shard->read_timeout, 2000);

    if (shard->read_timeout <= NGX_HTTP_PAYMENT_SHARD_LOCK_WAIT) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"read_timeout\" (%Mms) of payment_shard \"%V\" is "
                           "not longer than the %dms for which locks are "
                           "waited for: a connection that waits is lost",
                           shard->read_timeout, &shard->name,
                           NGX_HTTP_PAYMENT_SHARD_LOCK_WAIT);
    }

    ngx_conf_init_msec_value(shard->idle_timeout, 0);
    ngx_conf_init_msec_value(shard->max_age, 3600 * 1000);
    ngx_conf_init_uint_value(shard->max_requests, 0);

    return NGX_CONF_OK;
}


static char *
ngx_http_payment_shard_finish_durability(ngx_conf_t *cf,
    ngx_payment_shard_t *shard)
{
    ngx_conf_init_uint_value(shard->durability, NGX_PAYMENT_DURABILITY_LOCAL);

    if (shard->durability == NGX_PAYMENT_DURABILITY_REPLICA
        && shard->servers.nelts == 1)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"durability replica\" needs several servers in "
                           "payment_shard \"%V\"", &shard->name);
        return NGX_CONF_ERROR;
    }

    if (shard->durability == NGX_PAYMENT_DURABILITY_REPLICA
        && shard->servers.nelts == 2)
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"durability replica\" has two servers in "
                           "payment_shard \"%V\": payments stop when either "
                           "of them is away", &shard->name);
    }

    return NGX_CONF_OK;
}


/* A unix socket's other end may know the user by its process. */

static ngx_uint_t
ngx_http_payment_shard_is_local(ngx_payment_shard_t *shard)
{
    ngx_uint_t             i;
    ngx_payment_server_t  *servers;

    servers = shard->servers.elts;

    for (i = 0; i < shard->servers.nelts; i++) {
        if (servers[i].path.len == 0) {
            return 0;
        }
    }

    return 1;
}


/* A directive about TLS means that there is to be no connection without it. */

static char *
ngx_http_payment_shard_finish_ssl(ngx_conf_t *cf, ngx_payment_shard_t *shard)
{
    char  *word;

    ngx_conf_init_value(shard->ssl, 0);

    word = NULL;

    if (shard->ssl_ca.data) {
        word = "ssl_ca";

    } else if (shard->ssl_certificate.data) {
        word = "ssl_certificate";

    } else if (shard->ssl_certificate_key.data) {
        word = "ssl_certificate_key";

    } else if (shard->ssl_verify == 1) {
        word = "ssl_verify";
    }

    if (!shard->ssl && word) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%s\" without \"ssl on\" in payment_shard \"%V\"",
                           word, &shard->name);
        return NGX_CONF_ERROR;
    }

    if ((shard->ssl_certificate.data == NULL)
        != (shard->ssl_certificate_key.data == NULL))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ssl_certificate\" and \"ssl_certificate_key\" "
                           "go together in payment_shard \"%V\"",
                           &shard->name);
        return NGX_CONF_ERROR;
    }

    ngx_conf_init_value(shard->ssl_verify, shard->ssl);

    if (shard->ssl_ca.data
        && ngx_http_payment_file_certificates(cf, &shard->ssl_ca, "ssl_ca")
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (shard->ssl_certificate.data
        && (ngx_http_payment_file_certificates(cf, &shard->ssl_certificate,
                                               "ssl_certificate")
            != NGX_OK
            || ngx_http_payment_file_key(cf, &shard->ssl_certificate,
                                         &shard->ssl_certificate_key)
               != NGX_OK))
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
